"""What a step hands to the next: a verified directory of files with a name that is its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
MEASURED = "measured"
"""Folder of what depends on clock or place: outside keys and digests."""
SCHEMA = 1


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
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"

    @classmethod
    def parse(cls, text: str) -> Manifest:
        raw = json.loads(text)
        raw["files"] = tuple(FileEntry(**entry) for entry in raw["files"])
        raw["measured"] = tuple(FileEntry(**entry) for entry in raw["measured"])
        return cls(**raw)


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
        return Manifest.parse(self.file(MANIFEST).read_text(encoding="utf-8"))


def payload_digest(files: tuple[FileEntry, ...]) -> str:
    """sha256 over the sorted (path, length, sha256) of the payload; the manifest and `measured/` are outside it."""
    lines = sorted(f"{entry.path}\0{entry.bytes}\0{entry.sha256}\n" for entry in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write *value* so that equal values are equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
