"""Finished rows of soft targets on disk: a chunk is the unit of commit, so that a kill loses at most one of them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.errors import StoreError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAGIC = b"potstill chunk 2"
PLACE_BYTES = 8


@dataclass(frozen=True, slots=True)
class Chunk:
    """Encoded rows, and where they belong."""

    places: NDArray[np.int64]
    """[n], ascending, in the flattened [view, sample] order."""
    rows: NDArray[np.uint8]
    """[n, row stride]."""


@dataclass(frozen=True, slots=True)
class ChunkFiles:
    """Chunks of one teacher pass in one encoding under *folder*, each with a header that says what it is.

    Several processes may save at once, as long as no place is saved by two of them.
    """

    folder: Path
    key: str
    """Everything that decides the bytes; a chunk of another key does not count."""

    def load(self, first: int) -> Chunk | None:
        """The chunk whose first place is *first*, or None if it is absent, damaged or of something else."""
        try:
            content = self._path(first).read_bytes()
        except FileNotFoundError:
            return None
        return _parsed(content, self.key, first)

    def all(self) -> Iterator[Chunk]:
        """Every whole chunk, by first place."""
        for path in sorted(self.folder.glob("chunk-*.bin")):
            found = self.load(int(path.stem.partition("-")[2]))
            if found is not None:
                yield found

    def save(self, chunk: Chunk) -> None:
        """Commit *chunk*: afterwards it is there as a whole, also after a power cut. StoreError if it cannot."""
        first = int(chunk.places[0])
        payload = chunk.places.astype("<i8", copy=False).tobytes() + np.ascontiguousarray(chunk.rows).tobytes()
        header = _header(self.key, first, chunk.rows.shape, payload)
        try:
            self._publish(self._path(first), b"\n".join((MAGIC, header, payload)))
        except OSError as error:
            raise cannot_write(f"the chunk at row {first} of the soft targets in {self.folder}", error) from error

    def _publish(self, path: Path, content: bytes) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        with unfinished.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(path)
        _fsync_directory(self.folder)

    def _path(self, first: int) -> Path:
        return self.folder / f"chunk-{first:012d}.bin"


def cannot_write(what: str, error: OSError) -> StoreError:
    """The disk's refusal in words, with the way out."""
    return StoreError(
        f"cannot write {what} ({error.strerror}); free some space there or make it writable, and run again: "
        "finished chunks are kept"
    )


def _parsed(content: bytes, key: str, first: int) -> Chunk | None:
    magic, _, rest = content.partition(b"\n")
    header, _, payload = rest.partition(b"\n")
    try:
        num_rows, stride = json.loads(header)["shape"]
    except (ValueError, KeyError, TypeError):
        return None
    if magic != MAGIC or header != _header(key, first, (num_rows, stride), payload):
        return None
    places = np.frombuffer(payload, dtype="<i8", count=num_rows).astype(np.int64, copy=False)
    rows = np.frombuffer(payload, dtype=np.uint8, offset=PLACE_BYTES * num_rows)
    return Chunk(places, rows.reshape(num_rows, stride))


def _header(key: str, first: int, shape: tuple[int, ...], payload: bytes) -> bytes:
    digest = hashlib.sha256(json.dumps(shape).encode())
    digest.update(payload)
    fields: dict[str, Any] = {"key": key, "first": first, "shape": shape, "sha256": digest.hexdigest()}
    return json.dumps(fields, sort_keys=True).encode()


def _fsync_directory(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
