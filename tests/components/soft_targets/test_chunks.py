"""A chunk counts only when it is whole, undamaged and of this very teacher pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.errors import StoreError
from components.soft_targets.chunks import ChunkFiles

LOGITS = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)


@pytest.fixture
def files(tmp_path: Path) -> ChunkFiles:
    return ChunkFiles(tmp_path / "chunks", "k" * 64)


def test_a_chunk_comes_back_as_it_was(files: ChunkFiles) -> None:
    """Every bit, infinities included: whether they are allowed is not decided here."""
    logits = LOGITS.copy()
    logits[0, 0] = np.inf
    files.save(3, logits)

    found = files.load(3, (6, 5))

    assert found is not None and found.tobytes() == logits.tobytes()
    assert [path.name for path in files.folder.iterdir()] == ["chunk-000003.bin"]


def test_an_absent_chunk_is_none(files: ChunkFiles) -> None:
    """Nothing there is no error."""
    assert files.load(0, (6, 5)) is None


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_one_flipped_bit_anywhere_is_noticed(files: ChunkFiles, place: float, bit: int) -> None:
    """In the header or in the numbers."""
    files.save(0, LOGITS)
    path = files.folder / "chunk-000000.bin"
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    path.write_bytes(content)

    assert files.load(0, (6, 5)) is None


@pytest.mark.parametrize("damage", ["cut", "longer", "empty", "no newline"])
def test_a_chunk_of_the_wrong_length_is_noticed(files: ChunkFiles, damage: str) -> None:
    """Truncated at any place, extended or empty."""
    files.save(0, LOGITS)
    path = files.folder / "chunk-000000.bin"
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[:-1], "longer": whole + b"\0", "empty": b"", "no newline": b"potstill"}[damage])

    assert files.load(0, (6, 5)) is None


def test_swapped_chunks_and_those_of_others_do_not_count(files: ChunkFiles) -> None:
    """A chunk knows its place, its shape and its teacher pass."""
    files.save(0, LOGITS)
    files.save(1, LOGITS + 1)
    (files.folder / "chunk-000000.bin").replace(files.folder / "chunk-000001.bin")

    assert files.load(1, (6, 5)) is None
    files.save(0, LOGITS)
    assert files.load(0, (5, 6)) is None
    assert ChunkFiles(files.folder, "other").load(0, (6, 5)) is None
    assert files.load(0, (6, 5)) is not None


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """StoreError with the place and the system's reason."""
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(StoreError, match=r"cannot write chunk 0 .*file/chunks \(Not a directory\); free"):
        ChunkFiles(tmp_path / "file" / "chunks", "k").save(0, LOGITS)
