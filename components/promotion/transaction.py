"""Moving the champion: a line in the journal, then the aliases, so that a crash anywhere leaves a valid champion.

The journal decides and the registry's aliases follow it: MLflow keeps no history of them, and lets the last writer win.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from components import registry
from components.errors import BadInputError, DriftError
from components.promotion.journal import Change, Journal, Line
from components.registry import RegisteredVersion

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
SECOND_MS = 1000
"""Lines of the journal are dated to the second."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Standing:
    """Who is champion, and after which line of the journal that was so."""

    champion: RegisteredVersion | None
    sequence: int
    """Of the journal's last line; 0 for a model that it does not know."""


@dataclass(frozen=True, slots=True)
class Drift:
    """An alias that something else than Potstill moved."""

    line: Line
    """What the journal says."""
    found: RegisteredVersion | None
    """Where the alias stands."""

    def error(self) -> DriftError:
        model, found = self.line.model, f"version {self.found.version}" if self.found else "no version"
        return DriftError(
            f"the alias {CHAMPION!r} of {model!r} stands on {found}, and the journal put it on version "
            f"{self.line.version} ({self.line.kind} by {self.line.who} at {self.line.at}): something else moved it. "
            "`potstill restore` moves it back, `potstill adopt` accepts it as it is"
        )


def standing(journal: Journal, tracking_uri: str, model: str, *, say: Say) -> Standing:
    """The champion of *model*, once what a crash left has been completed or undone.

    A champion that is older than the journal becomes its first line, and one whose registry was lost is found again by
    its digest. Raises DriftError where an alias was moved by something else.
    """
    with journal.alone(model):
        _recover(journal, tracking_uri, model, say)
        drift = _drift(journal, tracking_uri, model)
        if drift:
            raise drift.error()
        return Standing(registry.current(tracking_uri, model, CHAMPION), _last(journal, model))


def change_champion(journal: Journal, tracking_uri: str, model: str, change: Change, *, after: int, say: Say) -> Line:
    """Make *change* if the journal still ends with line *after*; the aliases have moved when this returns.

    Raises PromotionConflictError where another promotion came first and DriftError where an alias was moved by
    something else; then nothing has changed.
    """
    with journal.alone(model):
        journal.demand_last(model, after)
        _recover(journal, tracking_uri, model, say)
        drift = _drift(journal, tracking_uri, model)
        if drift:
            raise drift.error()
        line = journal.begin(model, change, after=after)
        _move_aliases(tracking_uri, line)
        journal.settle(line, "done")
        return line


def find_drift(journal: Journal, tracking_uri: str, model: str, *, say: Say) -> Drift | None:
    """Where the alias stands elsewhere than the journal says."""
    with journal.alone(model):
        _recover(journal, tracking_uri, model, say)
        return _drift(journal, tracking_uri, model)


def restore(journal: Journal, tracking_uri: str, model: str, *, who: str, reason: str, say: Say) -> Line:
    """Move a drifted alias back to where the journal says; BadInputError without drift."""
    with journal.alone(model):
        _recover(journal, tracking_uri, model, say)
        drift = _demand_drift(journal, tracking_uri, model)
        line = drift.line
        change = Change("restore", line.version, line.digest, who, reason=reason or _drifted_to(drift))
        return _write(journal, tracking_uri, model, change)


def adopt(journal: Journal, tracking_uri: str, model: str, *, who: str, reason: str, say: Say) -> Line:
    """Accept where a drifted alias stands as the champion; BadInputError without drift, or where it stands nowhere."""
    with journal.alone(model):
        _recover(journal, tracking_uri, model, say)
        drift = _demand_drift(journal, tracking_uri, model)
        if drift.found is None:
            raise BadInputError(
                f"the alias {CHAMPION!r} of {model!r} was removed: there is nothing to adopt. `potstill restore` puts it "
                f"back on version {drift.line.version}"
            )
        change = Change(
            "adopt", drift.found.version, drift.found.digest, who, reason=reason or "moved outside Potstill"
        )
        return _write(journal, tracking_uri, model, change)


def _write(journal: Journal, tracking_uri: str, model: str, change: Change) -> Line:
    line = journal.begin(model, change, after=_last(journal, model))
    _move_aliases(tracking_uri, line)
    journal.settle(line, "done")
    return line


def _last(journal: Journal, model: str) -> int:
    lines = journal.lines(model)
    return lines[-1].sequence if lines else 0


def _recover(journal: Journal, tracking_uri: str, model: str, say: Say) -> None:
    """End what a crash left: forward where the version is there, back where it is not; then look after old and lost ones."""
    lines = journal.lines(model)
    if lines and lines[-1].state == "pending":
        _end(journal, tracking_uri, lines[-1], say)
    head = journal.head(model)
    if head is None:
        _adopt_elder(journal, tracking_uri, model, say)
    elif not _is_there(tracking_uri, head):
        _follow_lost(journal, tracking_uri, head, say)


def _end(journal: Journal, tracking_uri: str, line: Line, say: Say) -> None:
    if _is_there(tracking_uri, line):
        _move_aliases(tracking_uri, line)
        journal.settle(line, "done")
        say(f"{line.model} version {line.version}: a promotion that was cut short at {line.at} is completed")
    else:
        journal.settle(line, "undone")
        say(f"{line.model} version {line.version}: a promotion that was cut short is undone, since the version is gone")


def _adopt_elder(journal: Journal, tracking_uri: str, model: str, say: Say) -> None:
    """The champion of a registry that is older than the journal is its first line."""
    found = registry.current(tracking_uri, model, CHAMPION)
    if found is not None:
        change = Change(
            "adopt", found.version, found.digest, "potstill", reason="was champion before the journal began"
        )
        _write(journal, tracking_uri, model, change)
        say(f"{model} version {found.version} was champion before the journal began: it is its first line now")


def _follow_lost(journal: Journal, tracking_uri: str, head: Line, say: Say) -> None:
    """A registry that was set up anew numbers its versions anew; the champion is the one with the same digest."""
    found = registry.find_version(tracking_uri, head.model, head.digest)
    if found is not None and registry.current(tracking_uri, head.model, CHAMPION) is None:
        change = Change("restore", found.version, found.digest, "potstill", reason="the registry was set up anew")
        _write(journal, tracking_uri, head.model, change)
        say(f"{head.model} version {found.version} is the champion again: the registry was set up anew")


def _drift(journal: Journal, tracking_uri: str, model: str) -> Drift | None:
    """None too where the registry no longer holds the journal's champion, and has no other."""
    head, found = journal.head(model), registry.current(tracking_uri, model, CHAMPION)
    if head is None or (found is not None and _same(head, found)):
        return None
    if found is None and not _is_there(tracking_uri, head):
        return None
    return Drift(head, found)


def _demand_drift(journal: Journal, tracking_uri: str, model: str) -> Drift:
    drift = _drift(journal, tracking_uri, model)
    if drift is None:
        raise BadInputError(f"the aliases of {model!r} stand where the journal put them: there is nothing to mend")
    return drift


def _drifted_to(drift: Drift) -> str:
    return f"the alias had been moved to version {drift.found.version}" if drift.found else "the alias had been removed"


def _is_there(tracking_uri: str, line: Line) -> bool:
    """The very version: one that is younger than the line is of a registry that was set up anew."""
    found = registry.get_version(tracking_uri, line.model, line.version)
    written_ms = datetime.fromisoformat(line.at).timestamp() * 1000
    return found is not None and found.digest == line.digest and found.created_at_ms < written_ms + SECOND_MS


def _same(line: Line, found: RegisteredVersion) -> bool:
    return (line.version, line.digest) == (found.version, found.digest)


def _move_aliases(tracking_uri: str, line: Line) -> None:
    """All of them can be moved again: nothing here depends on where they stood. The champion comes last but for the tidying."""
    if line.previous_version and line.previous_version != line.version:
        before = registry.get_version(tracking_uri, line.model, line.previous_version)
        if before is not None:
            registry.set_alias(tracking_uri, line.model, PREVIOUS, before.version)
    registry.set_alias(tracking_uri, line.model, CHAMPION, line.version)
    challenger = registry.current(tracking_uri, line.model, CHALLENGER)
    if challenger is not None and challenger.version == line.version:
        registry.remove_alias(tracking_uri, line.model, CHALLENGER)
