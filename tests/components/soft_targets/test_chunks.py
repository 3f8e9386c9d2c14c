"""A chunk counts only when it is whole, undamaged and of this very teacher pass and codec."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.errors import StoreError
from components.soft_targets.chunks import Chunk, ChunkFiles

ROWS = np.random.default_rng(0).integers(0, 256, (6, 5), dtype=np.uint8)
PLACES = np.array([3, 4, 5, 9, 12, 13])
CHUNK = Chunk(PLACES, ROWS)


@pytest.fixture
def files(tmp_path: Path) -> ChunkFiles:
    return ChunkFiles(tmp_path / "chunks", "k" * 64)


def test_a_chunk_comes_back_as_it_was(files: ChunkFiles) -> None:
    """Every byte, and the places where it belongs, which need not be next to each other."""
    files.save(CHUNK)

    found = files.load(3)

    assert found is not None
    assert found.rows.tobytes() == ROWS.tobytes()
    assert found.rows.shape == ROWS.shape
    assert found.places.tolist() == PLACES.tolist()
    assert [path.name for path in files.folder.iterdir()] == ["chunk-000000000003.bin"]


def test_an_absent_chunk_is_none(files: ChunkFiles) -> None:
    """Nothing there is no error."""
    assert files.load(0) is None
    assert list(files.all()) == []


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_one_flipped_bit_anywhere_is_noticed(files: ChunkFiles, place: float, bit: int) -> None:
    """In the header, the places or the rows."""
    files.save(CHUNK)
    path = files.folder / "chunk-000000000003.bin"
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    path.write_bytes(content)

    assert files.load(3) is None
    assert list(files.all()) == []


@pytest.mark.parametrize("damage", ["cut", "longer", "empty", "no newline", "other shape"])
def test_a_chunk_of_the_wrong_length_is_noticed(files: ChunkFiles, damage: str) -> None:
    """Truncated at any place, extended or empty, or said to be of another shape."""
    files.save(CHUNK)
    path = files.folder / "chunk-000000000003.bin"
    whole = path.read_bytes()
    damaged = {
        "cut": whole[:-1],
        "longer": whole + b"\0",
        "empty": b"",
        "no newline": b"potstill",
        "other shape": whole.replace(b"[6, 5]", b"[5, 6]"),
    }[damage]
    assert damaged != whole
    path.write_bytes(damaged)

    assert files.load(3) is None


def test_swapped_chunks_and_those_of_others_do_not_count(files: ChunkFiles) -> None:
    """A chunk knows its place and its teacher pass."""
    files.save(Chunk(np.arange(6), ROWS))
    files.save(Chunk(np.arange(6, 12), ROWS + 1))
    first, second = (files.folder / f"chunk-{place:012d}.bin" for place in (0, 6))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)

    assert files.load(0) is None
    assert files.load(6) is None
    files.save(Chunk(np.arange(6), ROWS))
    assert [chunk.places[0] for chunk in files.all()] == [0]
    assert ChunkFiles(files.folder, "other").load(0) is None


def test_an_unfinished_chunk_does_not_count(files: ChunkFiles) -> None:
    """What a kill leaves between writing and publishing is not looked at."""
    files.save(CHUNK)
    path = files.folder / "chunk-000000000003.bin"
    path.rename(path.with_suffix(".unfinished"))

    assert list(files.all()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """StoreError with the place and the system's reason."""
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(StoreError, match=r"cannot write the chunk at row 3 .*file/chunks \(Not a directory\); free"):
        ChunkFiles(tmp_path / "file" / "chunks", "k").save(CHUNK)
