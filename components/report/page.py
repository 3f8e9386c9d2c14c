"""One self-contained HTML page, its pictures and its Markdown twin, rendered from artifacts; same input, same bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.gate import Decision
from components.report import table
from components.report.data import ReportData, StepRecord
from components.report.findings import find
from components.report.style import ARMS

if TYPE_CHECKING:
    from jinja2 import Environment
    from matplotlib.figure import Figure

    from components.params import SoftTargetParams

PAGE = "report.html"
MARKDOWN = "report.md"
TITLE = "Distillation report"
CODE_CHARACTERS = 12
LONGEST_QUOTE = 120
"""Values without spaces from this length on are hashes and addresses, set in a monospaced face."""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, a sentence and figures."""

    title: str
    caption: str
    figures: tuple[Any, ...]
    three: bool = False
    """Small figures, three to a row where there is room."""


def write_report(folder: Path, report: ReportData) -> Path:
    """Write report.html and report.md into *folder*; returns the page's path. The page appears last, and whole."""
    from components.report.plots import figures

    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKDOWN).write_text(to_markdown(report), encoding="utf-8")
    page = folder / PAGE
    # Outside the folder, which is handed on as a whole.
    draft = folder.with_name(f".{folder.name}-{os.getpid()}.html")
    try:
        draft.write_text(_html(report, figures(report), example_figures(report)), encoding="utf-8")
        draft.replace(page)
    finally:
        draft.unlink(missing_ok=True)
    return page


def write_plots(folder: Path, report: ReportData) -> tuple[Path, ...]:
    """Every figure of the page as a PNG file of its own in *folder*, for a tracking server."""
    from components.report.canvas import png
    from components.report.plots import figures

    folder.mkdir(parents=True, exist_ok=True)
    drawn = figures(report) | example_figures(report)
    return tuple(png(figure, folder / f"{name}.png") for name, figure in drawn.items())


def to_markdown(report: ReportData) -> str:
    """The decision, the table, the finding and where to look: what fits in a Prefect artifact or a pull request."""
    finding = find(report.metrics, report.workload)
    decided = [f"**{_headline(report.decision)}**", "", *_reason_lines(report.decision), ""] if report.decision else []
    found = [f"**{finding.headline}.**", "", *(f"- {sentence}" for sentence in finding.sentences)]
    links = [f"[{text}]({address})" for text, address, can_be_followed in _links(report.links) if can_be_followed]
    head = [f"# {_title(report)}", "", _subtitle(report), ""]
    lines = [*head, *decided, table.to_markdown(table.final_table(report)), *found, "", " · ".join(links)]
    return "\n".join(lines).rstrip() + "\n"


def example_figures(report: ReportData) -> dict[str, Figure]:
    """File name without ending -> the samples on which student and teacher disagree, softened by the temperature.

    None where the labels are no classes.
    """
    from components.report.disagreements import disagreements
    from components.report.plots import soft_example

    if "per_class" not in report.metrics:
        return {}
    found = disagreements(report)
    names = [entry["class_name"] for entry in report.metrics["per_class"]]
    rows = [one.row for one in found]
    samples, words = _pictures(report, rows), _words(report, rows)
    return {
        f"disagreement_{number}": soft_example(
            sample,
            one.student,
            one.teacher,
            names,
            f"{said}label {names[one.label]}: teacher says {names[one.teacher_says]}, student {names[one.student_says]}",
        )
        for number, (one, sample, said) in enumerate(zip(found, samples, words, strict=True), start=1)
    }


def _words(report: ReportData, rows: Sequence[int]) -> list[str]:
    """The samples of *rows* in quotes, shortened; nothing for each that is not to be read."""
    import numpy as np

    from components.report.canvas import shortened

    data = report.artifacts.get("data")
    if data is None:
        return [""] * len(rows)
    samples = np.load(data.file("samples.npy"), mmap_mode="r", allow_pickle=False)
    read = (report.workload.in_words(np.asarray(samples[row])) for row in rows)
    return [f"“{shortened(words, LONGEST_QUOTE)}” " if words else "" for words in read]


def _pictures(report: ReportData, rows: Sequence[int]) -> list[Any]:
    """The samples [channels, height, width] of *rows*, or None for each where there is nothing to see."""
    import numpy as np

    from components.report.plots import is_picture

    data = report.artifacts.get("data")
    if data is None:
        return [None] * len(rows)
    samples = np.load(data.file("samples.npy"), mmap_mode="r", allow_pickle=False)
    return [np.asarray(samples[row]) if is_picture(samples.shape[1:]) else None for row in rows]


def environment(*folders: Path) -> Environment:
    """Of the templates in *folders* and beside this file; a name that is not given is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader([*folders, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _html(report: ReportData, drawn: Mapping[str, Figure], examples: Mapping[str, Figure]) -> str:
    return (
        environment()
        .get_template("page.html")
        .render(
            title=_title(report),
            subtitle=_subtitle(report),
            decision=_decision(report.decision),
            table=table.final_table(report),
            finding=find(report.metrics, report.workload),
            sections=list(_sections(report, drawn, examples)),
            per_class=report.metrics.get("per_class", ()),
            arms=ARMS,
            soft_targets=_soft_targets(report),
            lineage=list(_lineage(report).items()),
            links=_links(report.links),
            is_code=_is_code,
            steps=report.steps,
            total=_total(report.steps),
            percent=table.percent,
            duration=table.duration,
        )
    )


def _title(report: ReportData) -> str:
    return f"{TITLE}: {report.params.registry.student}"


def _subtitle(report: ReportData) -> str:
    params = report.params
    return " · ".join(
        (
            f"{params.data.path} at {params.data.revision}",
            f"teacher {params.teacher.in_words}, student {params.student.model.name}",
            f"objective {report.params.student.objective.in_words()}",
        )
    )


def _decision(decision: Decision | None) -> Mapping[str, Any] | None:
    if decision is None:
        return None
    tone = {"promote": "good", "refuse": "bad", "already_champion": ""}[decision.outcome]
    return {"headline": _headline(decision), "tone": tone, "reasons": decision.reasons}


def _headline(decision: Decision) -> str:
    if decision.outcome == "promote":
        return "Promoted: this student is the champion"
    if decision.outcome == "already_champion":
        return "This student is the champion already: nothing was moved"
    return f"Refused: {len(decision.broken)} of {len(decision.reasons)} bounds broken, nothing was moved"


def _reason_lines(decision: Decision) -> list[str]:
    return [f"- {'✓' if reason.kept else '✗'} {reason.bound}: {reason.text}" for reason in decision.reasons]


def _sections(report: ReportData, drawn: Mapping[str, Figure], examples: Mapping[str, Figure]) -> Iterator[Section]:
    level = f"{100 * report.metrics['confidence']:g}{table.SPACE}%"
    name, measure = report.primary
    told = (
        (
            f"Size, speed and {measure.title}",
            f"Bars are {level} intervals of the {measure.title}.",
            f"{name}_by",
            False,
        ),
        (
            "Learning curves",
            "The validation split is the one to choose parameters on; the table above is about the test split.",
            "learning_curve",
            False,
        ),
        (
            "Calibration",
            f"On the dotted line, confidence is what it claims. Bars are {level} intervals; hollow marks have fewer than "
            "10 samples.",
            "reliability",
            True,
        ),
        (
            "Confusion",
            "The stronger the colour, the larger the share of the class; faint ones are lifted, so that rare confusions show.",
            "confusion",
            False,
        ),
        ("Predictions", "On the dotted line, a prediction is the label.", "predictions", True),
    )
    for title, caption, prefix, three in told:
        chosen = {name: figure for name, figure in drawn.items() if name.startswith(prefix)}
        if chosen:
            yield Section(title, caption, _inline(chosen), three)
    if examples:
        yield Section(
            "Where student and teacher disagree",
            f"The test samples with the largest divergence; probabilities softened at T = {report.temperature:g}.",
            _inline(examples),
        )


def _inline(figures: Mapping[str, Figure]) -> tuple[Any, ...]:
    from markupsafe import Markup

    from components.report.canvas import inline_svg

    # Matplotlib drew and escaped it; nothing of the user's reaches it as markup.
    return tuple(Markup(inline_svg(figure, name.replace("_", " "))) for name, figure in figures.items())  # noqa: S704


def _bound(params: SoftTargetParams, *, numbers: bool) -> str:
    kl = [] if params.max_kl is None else [f"mean KL ≤ {params.max_kl:g} nats"]
    if numbers:
        kl = [f"RMSE ≤ {params.max_relative_error:g} of the outputs' spread"]
    size = [] if params.max_bytes_per_row is None else [f"{params.max_bytes_per_row} bytes a row"]
    return ", ".join(kl + size) or "none"


def _soft_targets(report: ReportData) -> Mapping[str, Any] | None:
    """Codec, size and measured error of the stored logits."""
    artifact = report.artifacts.get("soft_targets")
    if artifact is None:
        return None
    header = artifact.read_json("soft_targets.json")
    rows = header["num_views"] * header["num_rows"]
    stored, plain = rows * header["row_stride_bytes"], rows * header["num_classes"] * 4
    numbers = report.workload.labels == "numbers"
    facts = [
        ("codec", header["codec"]),
        (
            "rows",
            f"{header['num_rows']:,} samples × {header['num_views']} views × "
            f"{header['num_classes']} {'targets' if numbers else 'classes'}",
        ),
        ("bytes", f"{table.byte_count(stored)} ({plain / stored:.1f} × smaller than float32)"),
        ("bound asked for", _bound(report.params.soft_targets, numbers=numbers)),
        ("key", artifact.key),
        ("digest", artifact.digest),
    ]
    if numbers:
        facts.insert(
            -2, ("RMSE to the live teacher", f"{header['error']['1']['relative_rmse']:.2e} of the outputs' spread")
        )
        return {"facts": facts, "errors": ()}
    errors = [
        (f"{float(temperature):g}", f"{error['mean_kl']:.2e}", f"{error['p99_kl']:.2e}")
        for temperature, error in sorted(header["error"].items(), key=lambda item: float(item[0]))
    ]
    return {"facts": facts, "errors": errors}


def _lineage(report: ReportData) -> Mapping[str, Any]:
    """What the caller knows, then what the artifacts themselves say."""
    digests = {f"{name.replace('_', ' ')} digest": artifact.digest for name, artifact in report.artifacts.items()}
    holdout = {"holdout digest": report.metrics["holdout"]["digest"]}
    return {**report.lineage, **digests, **holdout}


def _links(links: Mapping[str, str]) -> list[tuple[str, str, bool]]:
    """(text, address, whether a browser may follow it): no scheme that runs something becomes a link."""
    return [(text, address, address.startswith(("http://", "https://"))) for text, address in links.items() if address]


def _is_code(value: object) -> bool:
    text = str(value)
    return len(text) >= CODE_CHARACTERS and not any(character.isspace() for character in text)


def _total(steps: Sequence[StepRecord]) -> Mapping[str, Any]:
    now, made = sum(step.seconds for step in steps), sum(step.seconds_when_made for step in steps)
    cached = [step for step in steps if step.cached]
    saved = sum(max(step.seconds_when_made - step.seconds, 0.0) for step in cached)
    sentence = (
        f"{len(cached)} of {len(steps)} steps came from the store, which saved {table.duration(saved)}."
        if cached
        else "Nothing of this was in the store before; the next run with the same data, parameters and code finds it there."
    )
    return {"seconds": now, "seconds_when_made": made, "sentence": sentence}
