"""Make damaged results again, where the present parameters ask for them, through the steps that a run goes through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.artifacts.artifact import manifest_of
from components.artifacts.inventory import Entry
from components.artifacts.key import Key, differences
from components.artifacts.ledger import saving_of
from components.errors import ArtifactDamagedError, InterruptedRunError, PotstillError, RefusedError, some_of
from components.steps.pipeline import ORDER, ancestors
from flows.asked_for import keys_asked_for

if TYPE_CHECKING:
    from components.artifacts.artifact import Artifact
    from flows.run import Run


@dataclass(frozen=True, slots=True)
class MadeAgain:
    """A damaged artifact that is whole again."""

    entry: Entry
    """As it was."""
    digest: str
    rows_kept: int
    """Of soft targets: rows about which the teacher was not asked again."""


@dataclass(frozen=True, slots=True)
class Left:
    """A damaged artifact that was not made again."""

    entry: Entry
    why: str
    set_aside: bool
    """Whether it is out of the store now, as it should be."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """What became of the damaged artifacts."""

    made: tuple[MadeAgain, ...]
    left: tuple[Left, ...]


def repair(run: Run, damaged: Sequence[Entry], *, steps: Sequence[str], set_aside: bool) -> Repaired:
    """Make those of *damaged* again that *run* asks for among *steps*, and those before them that these need.

    What an interrupted run had set aside is made again too. What nobody asks for stays where it is, unless it is to
    be *set_aside*.
    """
    waiting = {(entry.kind, entry.key): entry for entry in damaged}
    made: list[MadeAgain] = []
    left: list[Left] = []
    asked: dict[str, Key] = {}
    for key in keys_asked_for(run, *steps):
        run.progress.check()
        asked[key.kind] = key
        entry = waiting.pop((key.kind, key.digest), None) or _lost(run, key)
        if entry is not None:
            become = _make_again(run, entry)
            made += [become] if isinstance(become, MadeAgain) else []
            left += [become] if isinstance(become, Left) else []
    left += [_leave(run, entry, why_not(entry, asked), set_aside) for entry in waiting.values()]
    return Repaired(tuple(made), tuple(left))


def _lost(run: Run, key: Key) -> Entry | None:
    """What lies in quarantine, and nowhere else."""
    copy = run.store.quarantined(key.kind, key.digest)
    if copy is None or run.store.storage.manifest(key.kind, key.digest) is not None:
        return None
    return Entry(key.kind, key.digest, manifest_of(copy))


def _make_again(run: Run, entry: Entry) -> MadeAgain | Left:
    try:
        for name in ancestors(entry.kind):
            if name not in run.outcomes:
                run.step(name)
        artifact = _whole(run, entry)
    except InterruptedRunError:
        raise
    except PotstillError as error:
        return Left(entry, f"could not be made again: {error}", set_aside=False)
    saving = saving_of(artifact, hit=False, run=run.name)
    return MadeAgain(entry, artifact.digest, saving.teacher_rows if saving else 0)


def _whole(run: Run, entry: Entry) -> Artifact:
    """What the step makes; its own gate may still refuse it, as it did before."""
    try:
        return run.step(entry.kind).artifact
    except RefusedError as error:
        artifact = run.store.find(entry.kind, entry.key)
        if artifact is None:
            raise
        run.progress.say(f"{entry.name} is whole again, and its gate says no as it would in a run: {error}")
        return artifact


def why_not(entry: Entry, asked: Mapping[str, Key]) -> str:
    """Why an artifact is not among those that the present parameters ask for, by kind."""
    if entry.kind not in ORDER:
        return "a note about other artifacts, which no step makes"
    if entry.manifest is None:
        return "its manifest cannot be read, so nothing says which parameters made it"
    if entry.older_schema:
        return f"made by an older version (schema {entry.older_schema}), whose results this one does not make"
    if entry.kind not in asked:
        return f"what it is made from is not in the store, or not asked for; made by {entry.manifest.producer}"
    other = some_of(differences(asked[entry.kind].fields, entry.manifest.fields))
    return f"made by {entry.manifest.producer}; what is asked for differs in {other}"


def _leave(run: Run, entry: Entry, why: str, set_aside: bool) -> Left:
    if set_aside:
        run.store.find(entry.kind, entry.key)
    return Left(entry, why, set_aside=not _is_there(run, entry))


def _is_there(run: Run, entry: Entry) -> bool:
    try:
        return next(run.store.storage.copies(entry.kind, entry.key), None) is not None
    except ArtifactDamagedError:
        return True
