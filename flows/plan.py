"""`potstill plan`: what a run would find and what it would compute, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from components.artifacts.artifact import Artifact
from components.artifacts.store import Miss
from components.steps.execute import key_of
from components.steps.pipeline import ORDER, load_step
from components.steps.step import Step, World
from flows.run import Run, open_run


@dataclass(frozen=True, slots=True)
class Planned:
    """What would happen to one step."""

    step: str
    hit: bool
    reason: str
    seconds: float | None


def make_plan(run: Run) -> list[Planned]:
    """Every step in order; a step behind a miss cannot have a key yet, so it is a miss for that reason."""
    artifacts: dict[str, Artifact] = {}
    planned = []
    for name in ORDER:
        step = load_step(name)
        waiting = [needed for needed in step.inputs if needed not in artifacts]
        if waiting:
            if not step.idle(run.params):
                shown = [needed for needed in waiting if not load_step(needed).idle(run.params)]
                planned.append(_noticed(_behind(run, name, shown), step, run))
            continue
        resolved = step.resolve(World(run.params, run.settings, artifacts, run.store))
        key = key_of(step, run.params, artifacts, resolved)
        found = run.store.find(name, key.digest, progress=run.progress)
        if found is not None:
            artifacts[name] = found
        if step.idle(run.params):
            continue
        if found is None:
            planned.append(_noticed(_missing(name, run.store.explain_miss(key)), step, run))
        else:
            planned.append(Planned(name, True, f"{found.digest[:12]}, made by {found.manifest().producer}", None))
    return planned


def _noticed(planned: Planned, step: Step, run: Run) -> Planned:
    """With what the step has to say of its own cost."""
    return replace(planned, reason="\n".join(filter(None, (planned.reason, step.notice(run.params)))))


def _missing(name: str, miss: Miss) -> Planned:
    if miss.nearest is None:
        return Planned(name, False, "never computed here", None)
    return Planned(name, False, "\n".join(miss.fields), miss.seconds)


def _behind(run: Run, name: str, waiting: Sequence[str]) -> Planned:
    latest = next(iter(run.store.storage.keys(name)), None)
    manifest = latest and run.store.storage.manifest(name, latest)
    seconds = manifest.cost.get("seconds") if manifest else None
    return Planned(name, False, f"its input changes: {', '.join(waiting)}", seconds)


def print_plan(params_file: Path, overrides: Sequence[str]) -> None:
    """Draw the plan; a data version that cannot be resolved is an error as in a run."""
    from rich.console import Console
    from rich.table import Table

    plan = make_plan(open_run(params_file, overrides, name="plan"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("step", "", "why", "about"):
        table.add_column(title, overflow="fold")
    for planned in plan:
        seconds = "" if planned.seconds is None else f"{planned.seconds:.0f} s"
        mark = "[green]found[/]" if planned.hit else "[yellow]compute[/]"
        table.add_row(planned.step, mark, planned.reason, seconds)
    console = Console()
    console.print(table)
    known = [planned.seconds for planned in plan if not planned.hit and planned.seconds is not None]
    unknown = sum(not planned.hit and planned.seconds is None for planned in plan)
    if known or unknown:
        tail = f", and {unknown} steps never timed here" if unknown else ""
        console.print(f"To compute: about {sum(known):.0f} s{tail}.")
    else:
        console.print("Nothing to compute: a run would find every step.")
