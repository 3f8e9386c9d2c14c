"""Free what nobody needs any more: whatever no registered model, young run or pin stands on."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.artifacts.artifact import WORK, write_json
from components.artifacts.disk import explained
from components.artifacts.inventory import Entry, entries
from components.artifacts.lock import BusyError
from components.errors import BadInputError, StoreError, some_of

if TYPE_CHECKING:
    from components.artifacts.store import Store

PINS = "pins"
ACCEPTED = "accepted"
QUARANTINE = ".quarantine"
CHECKS = "soft_targets_checks"
"""Verdicts on soft targets, which go when those do."""

Name = tuple[str, str]
"""Kind and key."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """A folder that a run left behind and nobody has touched for long."""

    folder: Path
    num_bytes: int
    changed: datetime
    """When anything in it changed last."""

    @property
    def quarantined(self) -> bool:
        """A damaged copy; otherwise it is unfinished work."""
        return self.folder.parent.name == QUARANTINE

    @property
    def kind_and_key(self) -> tuple[str, str]:
        """Of the artifact."""
        if self.quarantined:
            kind, key, _ = self.folder.name.rsplit("-", 2)
            return kind, key
        return self.folder.parent.name, self.folder.name


@dataclass(frozen=True, slots=True)
class Pin:
    """An artifact that is kept until it is unpinned."""

    kind: str
    key: str
    note: str
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Collected:
    """What became of the artifacts that were to go."""

    removed: tuple[Entry, ...]
    spared: tuple[Entry, ...]
    """In use just now, or used since the plan was made."""


def plan_collection(
    found: Sequence[Entry], *, registered: Collection[str], used: Mapping[Name, float], before: datetime
) -> tuple[Entry, ...]:
    """Those of *found*, everything in the store, that may go.

    There stay: what has one of the *registered* digests; what was made or used at *before* or later; what is pinned;
    the journal of accepted data versions; and whatever any of these names by key or digest in the fields of its key, in turn.
    Raises StoreError where a manifest cannot be read, since what that artifact stands on is not known.
    """
    unreadable = [f"{entry.kind}/{entry.key}" for entry in found if entry.manifest is None]
    if unreadable:
        raise StoreError(
            f"nothing is removed: the manifests of {some_of(unreadable)} cannot be read, so what they stand on is not known; "
            "`potstill artifacts repair` makes them again where it can, and --set-aside moves them out of the store"
        )
    named: dict[str, list[Entry]] = {}
    for entry in found:
        named.setdefault(entry.key, []).append(entry)
        named.setdefault(entry.digest, []).append(entry)
    waiting = [entry for entry in found if entry.kind != CHECKS and _is_root(entry, registered, used, before)]
    kept: set[Name] = set()
    while waiting:
        entry = waiting.pop()
        if (entry.kind, entry.key) not in kept:
            kept.add((entry.kind, entry.key))
            waiting += [other for text in _texts(_fields(entry)) for other in named.get(text, ())]
    digests = {entry.digest for entry in found if (entry.kind, entry.key) in kept}
    kept |= {(each.kind, each.key) for each in found if each.kind == CHECKS and digests & set(_texts(_fields(each)))}
    return tuple(entry for entry in found if (entry.kind, entry.key) not in kept)


def _is_root(entry: Entry, registered: Collection[str], used: Mapping[Name, float], before: datetime) -> bool:
    if entry.kind in (PINS, ACCEPTED) or entry.digest in registered:
        return True
    made = entry.created
    return made is None or max(made.timestamp(), used.get((entry.kind, entry.key), 0.0)) >= before.timestamp()


def _fields(entry: Entry) -> Mapping[str, Any]:
    return entry.manifest.fields if entry.manifest else {}


def _texts(value: Any) -> Iterator[str]:
    """Every string in a tree of mappings and lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


def last_used(store: Store, kinds: Sequence[str]) -> dict[Name, float]:
    """When each artifact was last found by a run, in seconds since 1970."""
    with explained(store.storage.root):
        return {(kind, key): at for kind in kinds for key, at in store.storage.used(kind).items()}


def collect(store: Store, chosen: Sequence[Entry], used: Mapping[Name, float]) -> Collected:
    """Remove *chosen*, one after the other; a kill in between leaves each of them whole or absent.

    *used* is what the plan was made from. What a process holds the lock of, or was used since, is spared.
    """
    with explained(store.storage.root):
        removed = [entry for entry in chosen if _remove(store, entry, used.get((entry.kind, entry.key)))]
        for kind in {entry.kind for entry in chosen}:
            store.storage.sweep(kind)
    return Collected(tuple(removed), tuple(entry for entry in chosen if entry not in removed))


def _remove(store: Store, entry: Entry, at: float | None) -> bool:
    try:
        with store.unless_busy(entry.kind, entry.key):
            return store.storage.remove(entry.kind, entry.key, last_used=at)
    except BusyError:
        return False


def leftovers(store: Store, before: datetime) -> tuple[Leftover, ...]:
    """Unfinished work and quarantined copies on this machine, in which nothing changed since *before*."""
    root = store.storage.root
    folders = [*root.glob(f"{WORK}/*/*"), *root.glob(f"{QUARANTINE}/*")]
    measured = [(folder, *_size_and_change(folder)) for folder in sorted(folders)]
    return tuple(Leftover(folder, size, changed) for folder, size, changed in measured if changed < before)


def _size_and_change(folder: Path) -> tuple[int, datetime]:
    """Bytes of all files in the folder, and when anything in it changed last."""
    statuses = [path.lstat() for path in (folder, *folder.rglob("*"))]
    num_bytes = sum(status.st_size for status in statuses if stat.S_ISREG(status.st_mode))
    return num_bytes, datetime.fromtimestamp(max(status.st_mtime for status in statuses), UTC)


def discard_leftovers(store: Store, chosen: Sequence[Leftover]) -> None:
    """Remove *chosen*, but no work that a process has just taken up."""
    for leftover in chosen:
        if leftover.quarantined:
            store.storage.discard(leftover.folder)
            continue
        with suppress(BusyError), store.unless_busy(*leftover.kind_and_key):
            store.storage.discard(leftover.folder)


def pin(store: Store, entry: Entry, note: str) -> None:
    """Keep *entry*, and what it stands on, until it is unpinned; the note of the first pin stays."""
    fields = {"kind": entry.kind, "key": entry.key, "note": note}
    store.commit(PINS, _pin_key(entry), fields, lambda out: write_json(out / "pin.json", fields))


def unpin(store: Store, entry: Entry) -> None:
    """Let *entry* go when nothing else needs it; BadInputError if it is not pinned."""
    key = _pin_key(entry)
    with explained(store.storage.root):
        if not store.storage.remove(PINS, key, last_used=store.storage.used(PINS).get(key)):
            raise BadInputError(f"{entry.name} is not pinned")


def pins(store: Store) -> tuple[Pin, ...]:
    """All pins, the newest first; one that cannot be read is left out, and stops a collection all the same."""
    fields = [(each.manifest.fields, each.created) for each in entries(store, (PINS,)) if each.manifest]
    return tuple(Pin(each["kind"], each["key"], each["note"], since) for each, since in fields)


def _pin_key(entry: Entry) -> str:
    return hashlib.sha256(json.dumps([entry.kind, entry.key]).encode()).hexdigest()
