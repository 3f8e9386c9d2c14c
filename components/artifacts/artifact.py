"""What a step hands to the next: a verified directory of files with a name that is its content."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
MEASURED = "measured"
"""Folder of what depends on clock or place: outside keys and digests."""
WORK = ".work"
"""Folder of a store's local directory with what is needed to go on: `<kind>/<key>/`."""
SCHEMA = 2
OLDER_SCHEMAS = frozenset({1})
"""Whose manifests had the same fields and no seal: what they tell is believed by lists and collection, never by a run."""
SEAL = "seal"
"""Name in the manifest of the sha256 of everything else in it."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of an artifact."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an artifact is, what went into it and what it cost; written last."""

    kind: str
    key: str
    fields: Mapping[str, Any]
    """Everything that went into the key."""
    files: tuple[FileEntry, ...]
    measured: tuple[FileEntry, ...]
    digest: str
    producer: str
    """The run that made it."""
    fingerprint: Mapping[str, Any]
    """Device, instruction set, threads and library builds: bits may differ between two of them."""
    created: str
    cost: Mapping[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    def dump(self) -> str:
        return _sealed(json.loads(json.dumps(asdict(self))))

    @classmethod
    def parse(cls, text: str) -> Manifest:
        """ValueError, TypeError or KeyError for anything but the very text that `dump` gave."""
        raw = json.loads(text)
        if raw["schema"] != SCHEMA:
            raise ValueError(f"its schema is {raw['schema']!r}, and this version of Potstill reads {SCHEMA}")
        del raw[SEAL]
        if _sealed(raw) != text:
            raise ValueError("it is not as it was written")
        return cls._of(raw)

    @classmethod
    def told(cls, text: str) -> Manifest:
        """As `parse`, and also what an older version of Potstill wrote."""
        raw = json.loads(text)
        if raw["schema"] not in OLDER_SCHEMAS:
            return cls.parse(text)
        datetime.fromisoformat(raw["created"])  # no seal vouches for it
        return cls._of(raw)

    @classmethod
    def _of(cls, raw: dict[str, Any]) -> Manifest:
        raw["files"] = tuple(FileEntry(**entry) for entry in raw["files"])
        raw["measured"] = tuple(FileEntry(**entry) for entry in raw["measured"])
        return cls(**raw)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """That of *folder*; OSError, or what `parse` raises, if it cannot be read."""
        if not is_plain(folder / MANIFEST):
            raise ValueError("it is no plain file")
        return cls.parse((folder / MANIFEST).read_bytes().decode())


@dataclass(frozen=True, slots=True)
class Artifact:
    """A committed result; small enough to pass between tasks, since it holds no tensors."""

    kind: str
    key: str
    digest: str
    root: Path
    """Local directory of the verified files; read-only."""

    def file(self, name: str) -> Path:
        return self.root / name

    def measured(self, name: str) -> Path:
        return self.root / MEASURED / name

    def read_json(self, name: str) -> Any:
        return json.loads(self.file(name).read_text(encoding="utf-8"))

    def manifest(self) -> Manifest:
        return Manifest.read(self.root)


def manifest_of(folder: Path) -> Manifest | None:
    """What *folder* says of itself, unverified and maybe in an older version's words; None if that cannot be read."""
    try:
        return Manifest.told((folder / MANIFEST).read_bytes().decode()) if is_plain(folder / MANIFEST) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _sealed(raw: Mapping[str, Any]) -> str:
    """The text of a manifest, with a digest of its own so that a change of any byte shows."""
    seal = hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest()
    return json.dumps({**raw, SEAL: seal}, indent=1, sort_keys=True) + "\n"


def payload_digest(files: tuple[FileEntry, ...]) -> str:
    """sha256 over the sorted (path, length, sha256) of the payload; the manifest and `measured/` are outside it."""
    lines = sorted(f"{entry.path}\0{entry.bytes}\0{entry.sha256}\n" for entry in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_plain(path: Path) -> bool:
    """Whether it is a file of its own: no link, folder, pipe or device."""
    return stat.S_ISREG(path.lstat().st_mode)


def walk(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files and folders below *folder*, outer folders first; no link is followed, and what cannot be listed is an error."""
    files: list[Path] = []
    folders: list[Path] = []
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                inner_files, inner_folders = walk(path)
                files += inner_files
                folders += [path, *inner_folders]
            else:
                files.append(path)
    return files, folders


def fsync(path: Path) -> None:
    """Wait until a file, or the list of names in a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write *value* so that equal values are equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
