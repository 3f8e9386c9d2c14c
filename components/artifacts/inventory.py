"""What lies in the store: every artifact with its size, age and cost, found by the beginning of its key or digest."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from components.artifacts.artifact import SCHEMA, manifest_of
from components.artifacts.disk import explained
from components.artifacts.store import problems
from components.errors import ArtifactDamagedError, BadInputError, some_of

if TYPE_CHECKING:
    from components.artifacts.artifact import Manifest
    from components.artifacts.store import Store

RECORDS = frozenset({"accepted", "pins", "soft_targets_checks"})
"""Kinds that are notes about artifacts, not results of steps."""
SHOWN_CHARACTERS = 12


@dataclass(frozen=True, slots=True)
class Entry:
    """One artifact as its manifest describes it; nothing of it has been verified."""

    kind: str
    key: str
    manifest: Manifest | None
    """None where it cannot be read."""

    @property
    def name(self) -> str:
        """For people and commands."""
        return f"{self.kind} {self.key[:SHOWN_CHARACTERS]}"

    @property
    def older_schema(self) -> int | None:
        """Of an artifact of an older version of Potstill, which no run of this one finds."""
        return self.manifest.schema if self.manifest and self.manifest.schema != SCHEMA else None

    @property
    def digest(self) -> str:
        return self.manifest.digest if self.manifest else ""

    @property
    def num_bytes(self) -> int:
        """Of all files but the manifest."""
        files = (*self.manifest.files, *self.manifest.measured) if self.manifest else ()
        return sum(file.bytes for file in files)

    @property
    def created(self) -> datetime | None:
        return datetime.fromisoformat(self.manifest.created) if self.manifest else None

    @property
    def cost_seconds(self) -> float | None:
        return self.manifest.cost.get("seconds") if self.manifest else None

    @property
    def inputs(self) -> dict[str, str]:
        """Kind of each artifact that it was made from -> digest."""
        return dict(self.manifest.fields.get("inputs", {})) if self.manifest else {}


@dataclass(frozen=True, slots=True)
class Checked:
    """Whether the files of one artifact are those of its manifest."""

    kind: str
    key: str
    problems: tuple[str, ...]
    """Nothing, if all is well."""
    folder: Path | None
    """Where the copy lies that was looked at last; None if there is none."""


def step_kinds(store: Store) -> tuple[str, ...]:
    """Kinds that are results of steps."""
    return tuple(kind for kind in store.storage.kinds() if kind not in RECORDS)


def entries(store: Store, kinds: Collection[str]) -> list[Entry]:
    """Every artifact of *kinds*, the newest of each kind first. StoreError where the place cannot be read."""
    with explained(store.storage.root):
        return [
            Entry(kind, key, store.storage.manifest(kind, key)) for kind in kinds for key in store.storage.keys(kind)
        ]


def find_entry(found: Sequence[Entry], beginning: str) -> Entry:
    """The one of *found* whose key or digest begins so; BadInputError for none, or for several, which it lists."""
    if not re.fullmatch(r"[0-9a-fA-F]{1,64}", beginning):
        raise BadInputError(f"{beginning!r} is no key: give the first hexadecimal digits of a key or digest")
    wanted = beginning.lower()
    exact = [entry for entry in found if entry.key == wanted]
    matching = exact or [entry for entry in found if entry.key.startswith(wanted) or entry.digest.startswith(wanted)]
    if not matching:
        raise BadInputError(f"nothing in the store has a key or digest that begins with {beginning}; `ls` lists all")
    if len(matching) > 1:
        names = some_of([f"{entry.name} (digest {entry.digest[:SHOWN_CHARACTERS]})" for entry in matching], limit=8)
        raise BadInputError(f"{beginning} is the beginning of {len(matching)}: {names}; give more digits")
    return matching[0]


def of_digest(found: Sequence[Entry], kind: str, digest: str) -> Entry | None:
    """The artifact of that kind and content."""
    return next((entry for entry in found if entry.kind == kind and entry.digest == digest), None)


def check(store: Store, entry: Entry) -> Checked:
    """Hash every file of the nearest whole copy, or of the last one there is; changes nothing."""
    folder: Path | None = None
    found: tuple[str, ...] = ("it is gone",)
    try:
        with explained(store.storage.root):
            for folder in store.storage.copies(entry.kind, entry.key):
                found = _problems(folder, entry)
                if not found:
                    break
    except ArtifactDamagedError as error:
        found = (str(error),)
    return Checked(entry.kind, entry.key, found, folder)


def _problems(folder: Path, entry: Entry) -> tuple[str, ...]:
    manifest = manifest_of(folder)
    if manifest is None:
        return ("its manifest cannot be read",)
    try:
        return tuple(problems(manifest, folder, entry.kind, entry.key))
    except FileNotFoundError as error:
        return (f"{error.filename} went away while it was read",)
