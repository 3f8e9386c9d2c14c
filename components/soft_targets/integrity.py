"""Whether the files of soft targets are still what was written, chunk by chunk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from components.artifacts.artifact import MANIFEST, Manifest, payload_digest, sha256_of
from components.errors import ArtifactDamagedError
from components.soft_targets.header import HEADER, LOGITS, ROWS, SAMPLE_IDS, Header, read_header


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with a folder of soft targets; nothing, if both are empty."""

    chunks: tuple[int, ...]
    """Damaged chunks of logits.bin; whatever follows the last counts as part of it."""
    files: tuple[str, ...]
    """Other files that are damaged or absent."""

    def __bool__(self) -> bool:
        return bool(self.chunks or self.files)


def inspect(folder: Path) -> Damage:
    """Compare every file with what the header says of it, and the header with the manifest where there is one.

    ArtifactDamagedError: the header itself is damaged, so that nothing can be said of the rest.
    """
    header = trusted_header(folder)
    hashes = {ROWS: header.rows_sha256, SAMPLE_IDS: header.sample_ids_sha256}
    files = [name for name, sha256 in hashes.items() if sha256 and _digest(folder / name) != sha256]
    return Damage(tuple(_damaged(folder / LOGITS, header)), tuple(files))


def damaged_chunks(folder: Path) -> tuple[int, ...]:
    """Chunks of logits.bin that are not what was written; see `inspect`."""
    return inspect(folder).chunks


def trusted_header(folder: Path) -> Header:
    """The header, unless it is not the one that the manifest beside it names; ArtifactDamagedError then."""
    if (folder / MANIFEST).exists():
        named = {entry.path: entry.sha256 for entry in _manifest(folder).files}
        if named.get(HEADER) != _digest(folder / HEADER):
            raise ArtifactDamagedError(f"{folder / HEADER} is not the file that {MANIFEST} names")
    return read_header(folder)


def _manifest(folder: Path) -> Manifest:
    try:
        manifest = Manifest.read(folder)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ArtifactDamagedError(f"{folder / MANIFEST} cannot be read: {error}") from error
    if payload_digest(manifest.files) != manifest.digest:
        raise ArtifactDamagedError(f"{folder / MANIFEST} does not match its own list of files")
    return manifest


def _digest(path: Path) -> str | None:
    return sha256_of(path) if path.is_file() else None


def _damaged(path: Path, header: Header) -> Iterator[int]:
    num_bytes = header.rows_per_chunk * header.row_stride_bytes
    last = len(header.chunk_sha256) - 1
    if not path.is_file():
        yield from range(last + 1)
        return
    with path.open("rb") as stream:
        for chunk, expected in enumerate(header.chunk_sha256):
            content = stream.read(num_bytes if chunk < last else -1)
            if hashlib.sha256(content).hexdigest() != expected:
                yield chunk
