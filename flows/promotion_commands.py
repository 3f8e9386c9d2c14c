"""`potstill promote`, `rollback`, `history`, `adopt` and `restore`: who is champion, and who was."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import BadInputError
from components.params import load_params
from components.promotion.journal import Change, Journal, Line
from components.promotion.transaction import Drift, adopt, change_champion, find_drift, restore, standing
from components.settings import Settings

if TYPE_CHECKING:
    from rich.table import Table

    from components.registry import RegisteredVersion
    from flows.gate_tasks import Judged

REFUSED = 3
MARKS = {"done": "", "pending": "cut short", "undone": "undone"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where champions of one model are kept."""

    journal: Journal
    tracking_uri: str
    model: str


def place_of(params_file: Path, overrides: Sequence[str]) -> Place:
    """Of the students of *params_file*; ServerError where MLflow does not answer."""
    from components import tracking
    from flows.servers import running_tracking_uri

    settings, params = Settings(), load_params(params_file, overrides)
    uri = running_tracking_uri(settings)
    tracking.probe(uri)
    return Place(Journal(settings.promotion_journal), uri, params.registry.student)


def launch_promote(version: str, params_file: Path, overrides: Sequence[str], *, force_reason: str) -> int:
    """Run the flow `promote` and print its decision; returns the exit code."""
    from flows.launch import with_servers

    params = load_params(params_file, overrides)
    with with_servers():
        judged = _run_flow(version, params_file, overrides, params.data.revision, force_reason)
    return _last_words(judged, force_reason)


def _run_flow(version: str, params_file: Path, overrides: Sequence[str], data_rev: str, force_reason: str) -> Judged:
    from flows.promote import promote_version

    state: Any = promote_version(
        version=version,
        params_file=str(params_file),
        overrides=list(overrides),
        data_rev=data_rev,
        force_reason=force_reason,
        return_state=True,
    )
    judged: Judged = state.result()
    return judged


def _last_words(judged: Judged, force_reason: str) -> int:
    from rich.console import Console

    console, refused = Console(), judged.decision.outcome == "refuse"
    console.print(reasons_table(judged))
    name = f"{judged.candidate.name} version {judged.candidate.version}"
    if refused and force_reason:
        console.print(f"[bold yellow]{name}: promoted by force ({force_reason}), against the gate[/]")
        return 0
    console.print(f"[bold {'yellow' if refused else 'green'}]{name}: {judged.decision.summary()}[/]")
    return REFUSED if refused else 0


def reasons_table(judged: Judged) -> Table:
    """A row a bound."""
    from rich.table import Table

    table = Table("bound", "", "why", box=None, pad_edge=False, header_style="bold")
    for reason in judged.decision.reasons:
        table.add_row(reason.bound, "[green]kept[/]" if reason.kept else "[red]broken[/]", reason.text)
    return table


def roll_back(place: Place, to: str | None, reason: str) -> Line:
    """Make an earlier champion champion again, once its digest and a fresh process have confirmed it.

    The one before the present champion without *to*. BadInputError for one that never was champion.
    """
    from components.promotion.smoke import smoke_test
    from flows.run import who

    stand = standing(place.journal, place.tracking_uri, place.model, say=_say)
    earlier = _earlier(place, stand.champion, to)
    version = _confirmed(place, earlier)
    smoke_test(version, place.tracking_uri)
    change = Change("rollback", version.version, version.digest, who(), reason=reason)
    return change_champion(place.journal, place.tracking_uri, place.model, change, after=stand.sequence, say=_say)


def _earlier(place: Place, champion: RegisteredVersion | None, to: str | None) -> Line:
    """The line that last made it champion."""
    lines = [line for line in place.journal.lines(place.model) if line.state == "done"]
    if champion is None or not lines:
        raise BadInputError(f"{place.model!r} has no champion: there is nothing to roll back")
    wanted = to or lines[-1].previous_version
    if not wanted:
        raise BadInputError(f"version {champion.version} is the only champion that {place.model!r} ever had")
    if wanted == champion.version:
        raise BadInputError(f"version {wanted} of {place.model!r} is champion already")
    found = [line for line in lines if line.version == wanted]
    if not found:
        known = ", ".join(dict.fromkeys(line.version for line in lines))
        raise BadInputError(
            f"version {wanted} of {place.model!r} never was champion (these were: {known}); `potstill promote {wanted}` "
            "puts it through the gate"
        )
    return found[-1]


def _confirmed(place: Place, line: Line) -> RegisteredVersion:
    """The version as the registry has it now; BadInputError where it is gone or another one."""
    from flows.gate_tasks import existing_version

    found = existing_version(place.tracking_uri, place.model, line.version)
    if found.digest != line.digest:
        raise BadInputError(
            f"version {line.version} of {place.model!r} was made from {line.digest[:12]} when it was champion, and the "
            f"registry says {found.digest[:12] or 'nothing'} now: it is not the same model"
        )
    return found


def mend(place: Place, how: str, reason: str) -> Line:
    """Adopt or restore a drifted alias."""
    from flows.run import who

    change = {"adopt": adopt, "restore": restore}[how]
    return change(place.journal, place.tracking_uri, place.model, who=who(), reason=reason, say=_say)


def show_history(place: Place, *, as_json: bool) -> None:
    """Every change of champion, the latest last, and whether the alias still stands where it was put."""
    drift = find_drift(place.journal, place.tracking_uri, place.model, say=_say)
    lines = place.journal.lines(place.model)
    if as_json:
        found = {"model": place.model, "lines": [asdict(line) for line in lines], "drift": _drift_json(drift)}
        print(json.dumps(found, indent=2, sort_keys=True))  # noqa: T201 (for programs)
        return
    _print_history(place, lines, drift)


def _drift_json(drift: Drift | None) -> dict[str, Any] | None:
    if drift is None:
        return None
    return {"journal": drift.line.version, "alias": drift.found.version if drift.found else None}


def _print_history(place: Place, lines: Sequence[Line], drift: Drift | None) -> None:
    from rich.console import Console

    console = Console()
    if not lines:
        console.print(f"{place.model} has never had a champion; `potstill run` trains a candidate.")
        return
    console.print(history_table(lines))
    if drift:
        console.print(f"[bold yellow]{drift.error()}[/]")


def history_table(lines: Sequence[Line]) -> Table:
    """A row a line of the journal."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("#", "when (UTC)", "what", "version", "digest", "who", "why"):
        table.add_column(title, overflow="fold", no_wrap=title in ("#", "when (UTC)", "what", "version", "digest"))
    for line in lines:
        moved = f"{line.previous_version or '–'} → {line.version}"
        what = " ".join(filter(None, (line.kind, MARKS[line.state])))
        when = line.at[:16].replace("T", " ")
        table.add_row(str(line.sequence), when, what, moved, line.digest[:8], line.who, _why(line))
    return table


def _why(line: Line) -> str:
    """A person's reason, else how the gate put it."""
    if line.reason:
        return line.reason
    broken = [reason["bound"] for reason in line.decision.get("reasons", ()) if not reason["kept"]]
    return f"against: {', '.join(broken)}" if broken else f"{len(line.decision.get('reasons', ()))} bounds kept"


def _say(message: str) -> None:
    from rich.console import Console

    Console(stderr=True).print(message, highlight=False, soft_wrap=not os.isatty(2))
