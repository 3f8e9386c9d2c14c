"""Finished chunks of teacher logits on disk: the unit of commit, so that a kill loses at most one of them."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.errors import StoreError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAGIC = b"potstill chunk 1\n"


@dataclass(frozen=True, slots=True)
class ChunkFiles:
    """Chunks of one teacher pass under *folder*, float32, each with a header that says what it is."""

    folder: Path
    key: str
    """Everything that decides the numbers; a chunk of another key does not count."""

    def load(self, index: int, shape: tuple[int, int]) -> NDArray[np.float32] | None:
        """Chunk *index* as float32 [rows, C], or None if it is absent, damaged or of something else."""
        try:
            content = self._path(index).read_bytes()
        except FileNotFoundError:
            return None
        magic, _, rest = content.partition(b"\n")
        header, _, payload = rest.partition(b"\n")
        if magic + b"\n" != MAGIC or header != _header(self.key, index, shape, payload):
            return None
        return np.frombuffer(payload, dtype="<f4").reshape(shape).astype(np.float32, copy=False)

    def save(self, index: int, logits: NDArray[np.float32]) -> None:
        """Commit chunk *index*: afterwards it is there as a whole, also after a power cut. StoreError if it cannot."""
        payload = np.ascontiguousarray(logits, dtype="<f4").tobytes()
        header = _header(self.key, index, logits.shape, payload)
        try:
            self._publish(self._path(index), MAGIC + header + b"\n" + payload)
        except OSError as error:
            raise cannot_write(f"chunk {index} of the soft targets in {self.folder}", error) from error

    def _publish(self, path: Path, content: bytes) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        with unfinished.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(path)
        _fsync_directory(self.folder)

    def _path(self, index: int) -> Path:
        return self.folder / f"chunk-{index:06d}.bin"


def cannot_write(what: str, error: OSError) -> StoreError:
    """The disk's refusal in words, with the way out."""
    return StoreError(
        f"cannot write {what} ({error.strerror}); free some space there or make it writable, and run again: "
        "finished chunks are kept"
    )


def _header(key: str, index: int, shape: tuple[int, ...], payload: bytes) -> bytes:
    fields: dict[str, Any] = {
        "key": key,
        "index": index,
        "shape": list(shape),
        "bytes": len(payload),
        "sha256": hashlib.sha256(payload).hexdigest(),
    }
    return json.dumps(fields, sort_keys=True).encode()


def _fsync_directory(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
