"""`potstill repeat`: one teacher, several seeds of both students, and how sure the difference between them is."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.artifacts.artifact import write_json
from components.contracts import Workload
from components.errors import BadInputError
from components.evaluation.over_seeds import PairedDifference, Spread, paired_difference, spread
from flows.run import Run, code_version, open_run

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

STEPS = ("data", "validate", "teacher", "fold_teachers", "soft_targets", "baseline", "student", "evaluate")
ARMS = {"teacher": "teacher", "baseline": "hard-label student", "student": "distilled student"}


def repeat(params_file: Path, overrides: Sequence[str], *, seeds: int, name: str) -> dict[str, Any]:
    """Run the steps for student.seed = 0..seeds-1 through the one store and gather their test metrics."""
    if seeds < 2:
        raise BadInputError(f"--seeds is {seeds}; a deviation needs 2 or more")
    began = time.monotonic()
    runs = [
        all_steps(params_file, (*overrides, f"student.seed={seed}"), f"repeat {name} {seed}") for seed in range(seeds)
    ]
    per_seed = [run.artifacts()["evaluate"].read_json("metrics.json") for run in runs]
    return {
        "name": name,
        "seeds": list(range(seeds)),
        **summary(per_seed, runs[0].params.workload.build()),
        "minutes": (time.monotonic() - began) / 60,
        "cached_steps": sum(outcome.cached for run in runs for outcome in run.outcomes.values()),
        "machine": machine(runs[0]),
        "params": runs[0].params.model_dump(mode="json"),
        "code": code_version().commit,
    }


def all_steps(params_file: Path, overrides: Sequence[str], name: str, *, steps: Sequence[str] = STEPS) -> Run:
    """A run in which *steps* are done."""
    run = open_run(params_file, overrides, name=name)
    for step in steps:
        run.step(step)
    return run


def summary(per_seed: Sequence[Mapping[str, Any]], workload: Workload) -> dict[str, Any]:
    """Metrics of each seed -> each arm's spread and parameters, and distilled - hard labels of every measure."""
    titles = {name: measure.title for name, measure in {**workload.measures, **workload.fidelity_measures}.items()}
    arms = {
        arm: {metric: plain(spread([found[arm][metric] for found in per_seed])) for metric in titles} for arm in ARMS
    }
    differences = {
        metric: plain(
            paired_difference([f["student"][metric] for f in per_seed], [f["baseline"][metric] for f in per_seed])
        )
        for metric in titles
    }
    return {
        "measures": titles,
        "arms": arms,
        "num_parameters": {arm: per_seed[0][arm]["num_parameters"] for arm in ARMS},
        "student_minus_baseline": differences,
        "per_seed": [{arm: {m: found[arm][m] for m in titles} for arm in ARMS} for found in per_seed],
    }


def plain(value: Spread | PairedDifference) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}


def machine(run: Run) -> dict[str, Any]:
    from importlib.metadata import version

    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": run.settings.num_threads,
        "torch": version("torch"),
    }


def table_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """A row an arm, and one for the difference; the first is the header."""
    titles = result["measures"]
    rows = [["", *titles.values(), "parameters"]]
    for arm, title in ARMS.items():
        found = result["arms"][arm]
        cells = [_cell(found[metric], alone=arm == "teacher") for metric in titles]
        rows.append([title, *cells, f"{result['num_parameters'][arm]:,}"])
    return [*rows, ["distilled - hard labels", *(_interval(result["student_minus_baseline"][m]) for m in titles), ""]]


def _cell(found: Mapping[str, Any], *, alone: bool) -> str:
    return f"{found['mean']:.4f}" if alone else f"{found['mean']:.4f} ± {found['sd']:.4f}"


def _interval(found: Mapping[str, Any]) -> str:
    return f"{found['mean']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}] p={found['p_value']:.3g}"


def markdown(result: Mapping[str, Any]) -> str:
    header, *rows = table_rows(result)
    lines = [header, ["---"] * len(header), *rows]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return (
        f"# {result['name']}: {len(result['seeds'])} seeds, one teacher\n\n{text}\n\n{result['minutes']:.1f} minutes.\n"
    )


def rich_table(result: Mapping[str, Any]) -> Table:
    from rich.table import Table

    # Turned, since a terminal has more lines than columns.
    header, *rows = zip(*table_rows(result), strict=True)
    table = Table(*header, title=f"{result['name']}: {len(result['seeds'])} seeds, mean ± sd, 95 % t-intervals")
    for row in rows:
        table.add_row(*row)
    return table


def write(result: Mapping[str, Any], folder: Path, *, text: str) -> None:
    """result.json and *text* as result.md in *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "result.json", result)
    (folder / "result.md").write_text(text, encoding="utf-8")


def launch_repeat(params_file: Path, overrides: Sequence[str], *, seeds: int) -> None:
    """Repeat with progress, print the table and write it below <var>/repeats/."""
    name = params_file.stem
    launched(
        lambda: repeat(params_file, overrides, seeds=seeds, name=name),
        folder=Path("repeats") / name,
        text=markdown,
        table=rich_table,
    )


def launched(
    work: Callable[[], dict[str, Any]],
    *,
    folder: Path,
    text: Callable[[dict[str, Any]], str],
    table: Callable[[dict[str, Any]], RenderableType],
) -> None:
    """Do *work* with progress, print its table and write its result below <var>/<folder>/."""
    from rich.console import Console

    from components.settings import Settings
    from flows.console import ConsoleProgress, interruptible
    from flows.run import PROGRESS

    console = Console()
    progress = ConsoleProgress(console)
    with interruptible(progress):
        PROGRESS.set(progress)
        result = work()
    written = Settings().var_dir / folder
    write(result, written, text=text(result))
    console.print(table(result))
    console.print(f"in {written}", soft_wrap=True, highlight=False)
