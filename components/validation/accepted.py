"""The journal of accepted data versions: append-only, one tiny artifact an entry, no file that ever changes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.artifacts.artifact import Artifact, write_json
from components.errors import NondeterminismError
from components.params import Params

if TYPE_CHECKING:
    from components.artifacts.store import Store

KIND = "accepted"
ENTRY = "entry.json"


@dataclass(frozen=True, slots=True)
class Accepted:
    """One data version that passed its critical expectations."""

    data: str
    """Digest of the data artifact."""
    validate: str
    """Digest of the validate artifact."""
    validate_key: str


def line_of(params: Params) -> str:
    """What names a line of data versions: the data's place and the workload, at whatever revision."""
    # A rotated token in the URL does not make it another repository.
    repository = re.sub(r"//[^/@]*@", "//", params.data.repository)
    return _sha256([repository, params.data.path, params.workload.name])


def journal(store: Store, line: str) -> tuple[Accepted, ...]:
    """The accepted versions of *line*, oldest first."""
    return tuple(_entries(store, line))


def reference_for(store: Store, line: str, data_digest: str) -> Accepted | None:
    """The version to compare *data_digest* with: the last one accepted before it, or None if it is the first.

    A version that is in the journal already is compared with the entry just before its own, so
    that validating it again later resolves to the same reference.
    """
    entries = journal(store, line)
    own = next((index for index, entry in enumerate(entries) if entry.data == data_digest), len(entries))
    return entries[own - 1] if own else None


def record_accepted(store: Store, line: str, data_digest: str, validate_artifact: Artifact) -> Accepted:
    """Append a version that passed; the entry that is there already if it has been recorded before."""
    entry = Accepted(data_digest, validate_artifact.digest, validate_artifact.key)
    place = 0
    while True:
        there = _read(store.find(KIND, _key(line, place))) or _append(store, line, place, entry)
        if there is not None and there.data == data_digest:
            return there
        place += there is not None


def _append(store: Store, line: str, place: int, entry: Accepted) -> Accepted | None:
    """The entry that is now at *place*: ours or a faster writer's; None if the store only says that it is not ours."""
    fields = {"line": line, "place": place, **asdict(entry)}
    try:
        return _read(store.commit(KIND, _key(line, place), fields, lambda out: _write(out, entry)))
    except NondeterminismError:
        return None


def _entries(store: Store, line: str) -> Iterator[Accepted]:
    place = 0
    while (entry := _read(store.find(KIND, _key(line, place)))) is not None:
        yield entry
        place += 1


def _write(out: Path, entry: Accepted) -> None:
    write_json(out / ENTRY, asdict(entry))


def _read(artifact: Artifact | None) -> Accepted | None:
    return None if artifact is None else Accepted(**artifact.read_json(ENTRY))


def _key(line: str, place: int) -> str:
    return _sha256([line, place])


def _sha256(parts: list[str | int]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
