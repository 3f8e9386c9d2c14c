"""What a person sees of a sweep: a page, its pictures, a table for the terminal, and sweep.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from components.artifacts.artifact import write_json
from components.evaluation.over_seeds import spread
from components.report.table import (
    NOTHING,
    SPACE,
    change_interval,
    changed,
    duration,
    milliseconds,
    value_interval,
    written,
)
from components.sweeps.diagnostics import Diagnosis
from components.sweeps.results import SweepResult, TrialResult, not_complete, to_json, to_paste, to_set
from components.sweeps.space import in_words, short_name

if TYPE_CHECKING:
    from rich.table import Table

PAGE, RESULT = "report.html", "sweep.json"
TERMINAL_ROWS = 12


def write_sweep(folder: Path, result: SweepResult, diagnoses: Sequence[Diagnosis], *, subtitle: str) -> Path:
    """Write report.html, every figure as PNG and sweep.json into *folder*; returns the page's path."""
    from components.report.canvas import inline_svg, png
    from components.sweeps.plots import figures

    folder.mkdir(parents=True, exist_ok=True)
    drawn = figures(result)
    for old in folder.glob("*.png"):
        old.unlink()
    page = _html(result, diagnoses, {name: inline_svg(figure, name) for name, figure in drawn.items()}, subtitle)
    for name, figure in drawn.items():
        png(figure, folder / f"{name}.png")
    write_json(folder / RESULT, {**to_json(result), "diagnoses": [asdict(each) for each in diagnoses]})
    (folder / PAGE).write_text(page, encoding="utf-8")
    return folder / PAGE


def _html(result: SweepResult, diagnoses: Sequence[Diagnosis], drawn: Mapping[str, str], subtitle: str) -> str:
    from markupsafe import Markup

    from components.report.page import environment

    # Matplotlib drew and escaped it; nothing of the user's reaches it as markup.
    pictures = {name: Markup(picture) for name, picture in drawn.items()}  # noqa: S704
    chosen = result.recommendation
    template = environment(Path(__file__).parent).get_template("sweep.html")
    return template.render(
        title=f"Sweep {result.name}",
        subtitle=subtitle,
        headline=headline(result),
        sentences=list(sentences(result)),
        paste=to_paste(chosen.trial.values) if chosen else "",
        command=" \\\n  ".join(["potstill run", *to_set(chosen.trial.values)]) if chosen else "",
        diagnoses=diagnoses,
        maps=[picture for name, picture in pictures.items() if name.startswith("heat_map")],
        others=[picture for name, picture in pictures.items() if name.startswith("by_")],
        fronts=[picture for name, picture in pictures.items() if name.startswith("front")],
        rows=table_rows(result, every=True),
        recommended=str(chosen.trial.number) if chosen else "",
        ended=list(not_complete(result)),
        measure=result.measure.title,
        num_rows=f"{result.num_validation_rows:,}",
        total=total(result),
    )


def headline(result: SweepResult) -> str:
    """Such as 'T 4, alpha 0.9: accuracy 95.1 %, +1.2 points over hard labels'."""
    chosen = result.recommendation
    if chosen is None:
        return "No trial came to its end: there is nothing to recommend"
    values = ", ".join(f"{short_name(name)} {in_words(value)}" for name, value in chosen.trial.values.items())
    value = chosen.trial.value(result.metric)
    control = result.control.value(result.metric) if result.control else None
    gain = f", {changed(result.measure, value - control)} against hard labels" if control is not None else ""
    return f"{values}: validation {result.measure.title} {written(result.measure, value)}{gain}"


def sentences(result: SweepResult) -> Iterator[str]:
    """How sure, how many are as good, and what the number is not."""
    chosen = result.recommendation
    if chosen is None:
        return
    yield f"Trial {chosen.trial.number} has {chosen.why}."
    if sure := chosen.certainty:
        is_change = " less " in sure.what
        write, span = (changed, change_interval) if is_change else (written, value_interval)
        yield (
            f"{sure.what[:1].upper()}{sure.what[1:]}: {write(result.measure, sure.value)}, 95{SPACE}% interval "
            f"{span(result.measure, sure.low, sure.high)} ({sure.method})."
        )
    if chosen.as_good:
        count = len(chosen.as_good)
        yield f"{count} of {len(result.complete)} trials are not measurably worse than the best one."
    yield (
        f"It is the choice among {len(result.complete)} trials on the {result.num_validation_rows:,} validation samples that "
        "chose it, so expect less of it elsewhere; the test split has not been looked at."
    )


def total(result: SweepResult) -> str:
    return (
        f"{result.num_trained} students were trained, {result.num_found} were in the store already; "
        f"{duration(result.seconds)} in all."
    )


def table_rows(result: SweepResult, *, every: bool) -> list[list[str]]:
    """The header, the teacher, hard labels, and the trials, the best first."""
    names = list(dict.fromkeys(name for trial in result.trials for name in trial.values))
    header = ["trial", *map(short_name, names), result.measure.title, "parameters", "latency p50"]
    blank = [NOTHING] * len(names)
    teacher = result.teacher
    size = f"{teacher.num_parameters:,}" if teacher.num_parameters else NOTHING
    value = written(result.measure, teacher.metrics[result.metric]) if result.metric in teacher.metrics else NOTHING
    rows = [["teacher", *blank, value, size, milliseconds(teacher.latency_p50_ms)]]
    rows += [_row(result, trial, "hard labels", names) for trial in result.hard_labels]
    trials = result.complete if every else result.complete[:TERMINAL_ROWS]
    return [header, *rows, *(_row(result, trial, str(trial.number), names) for trial in trials)]


def _row(result: SweepResult, trial: TrialResult, label: str, names: Sequence[str]) -> list[str]:
    values = [in_words(trial.values[name]) if name in trial.values else NOTHING for name in names]
    found = spread(trial.each(result.metric))
    scale = 100 if result.measure.unit == "share" else 1
    deviation = f" ± {scale * found.sd:.2g}" if found.sd is not None else ""
    shown = written(result.measure, found.mean)
    cell = shown.replace(f"{SPACE}%", f"{deviation}{SPACE}%") if shown.endswith("%") else shown + deviation
    return [label, *values, cell, f"{trial.num_parameters:,}", milliseconds(trial.latency_p50_ms)]


def to_rich(result: SweepResult) -> Table:
    """For a terminal."""
    from rich import box
    from rich.table import Table

    header, *rows = table_rows(result, every=False)
    left_out = len(result.complete) - TERMINAL_ROWS
    title = f"On {result.num_validation_rows:,} validation samples, the best first"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index == 0 else "right")
    chosen = result.recommendation
    for row in rows:
        table.add_row(*row, style="bold green" if chosen and row[0] == str(chosen.trial.number) else "")
    if left_out > 0:
        table.caption = f"{left_out} more in {RESULT}"
    return table


def to_markdown(result: SweepResult, diagnoses: Sequence[Diagnosis]) -> str:
    """For a Prefect artifact and the note of the MLflow run."""
    header, *rows = table_rows(result, every=False)
    lines = [header, ["---"] * len(header), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    found = "\n".join(f"- {sentence}" for sentence in sentences(result))
    answers = "\n".join(f"- **{each.question}** {each.answer}" for each in diagnoses)
    pasted = to_paste(result.recommendation.trial.values) if result.recommendation else ""
    return f"**{headline(result)}**\n\n{found}\n\n```yaml\n{pasted}\n```\n\n{table}\n\n{answers}\n\n{total(result)}\n"
