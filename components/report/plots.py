"""The report's figures: matplotlib's object interface on the Agg and SVG canvases, no global state, same input same bytes."""

from __future__ import annotations

import io
import re
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.contracts import Measure
from components.report.data import ReportData
from components.report.style import ARMS, INK, Arm

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

WIDE, NARROW = (4.8, 3.1), (3.2, 3.1)
"""Inches. Narrow enough that 9 points stay readable when a phone shows a figure at its full width."""
FONT_POINTS = 9
PNG_DOTS_PER_INCH = 200
MAX_CLASSES_NAMED = 20
MAX_CLASSES_COUNTED = 12
MAX_BARS = 10
THIN_BIN = 10


def figures(report: ReportData) -> dict[str, Figure]:
    """File name without ending -> figure, in the report's order; what has no data is left out."""
    name, measure = report.primary
    found = {
        "learning_curve_losses": losses(report.history("student")),
        f"learning_curve_{name}": validation_curve({arm.name: report.history(arm.name) for arm in ARMS}, name, measure),
        f"{name}_by_parameters": by_parameters(report.metrics, name, measure),
        f"{name}_by_latency": by_latency(report.metrics, report.latency(), name, measure),
        **{f"reliability_{arm.name}": reliability(report, arm) for arm in ARMS},
        "confusion_student": confusion(report),
        **{f"predictions_{arm.name}": predictions(report, arm) for arm in ARMS},
    }
    return {name: figure for name, figure in found.items() if figure is not None}


def losses(history: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Both parts of the student's training loss, and their weighted sum; one point an epoch."""
    if not history:
        return None
    parts = (
        ("loss_distillation", "distillation", "-"),
        ("loss_hard", "hard labels", "--"),
        ("loss_total", "total", ":"),
    )
    colours = (ARMS[2].colour, ARMS[1].colour, INK)
    figure, axes = _figure(WIDE, "Losses of the distilled student", "epoch", "training loss")
    for (name, label, line), colour in zip(parts, colours, strict=True):
        points = [(record["epoch"], record[name]) for record in history if record.get(name) is not None]
        if points:
            axes.plot(
                *zip(*points, strict=True), line, color=colour, label=label, linewidth=1.6, **_mark_if_short(points)
            )
    _log_if_wide(axes)
    _whole_epochs(axes)
    _legend(axes)
    return figure


def validation_curve(
    histories: Mapping[str, Sequence[Mapping[str, Any]]], name: str, measure: Measure
) -> Figure | None:
    """The metric on the validation split after each epoch, one line an arm that was trained here."""
    if not any(histories.values()):
        return None
    figure, axes = _figure(WIDE, f"Validation {measure.title}", "epoch", _axis_label(measure))
    for arm in ARMS:
        records = [record for record in histories.get(arm.name, ()) if record.get(f"validation_{name}") is not None]
        points = [(record["epoch"], _scale(measure) * record[f"validation_{name}"]) for record in records]
        if points:
            line = (0, arm.dashes) if arm.dashes else "-"
            axes.plot(
                *zip(*points, strict=True), color=arm.colour, linestyle=line, label=arm.title, linewidth=1.6,
                **_mark_if_short(points),
            )  # fmt: skip
    _whole_epochs(axes)
    _legend(axes)
    return figure


def _axis_label(measure: Measure) -> str:
    unit = {"share": " (%)", "nats": " (nats)", "": ""}[measure.unit]
    return f"{measure.title}{unit}"


def _scale(measure: Measure) -> float:
    return 100.0 if measure.unit == "share" else 1.0


def by_parameters(metrics: Mapping[str, Any], name: str, measure: Measure) -> Figure:
    """The test metric with its interval against the number of parameters."""
    places = {arm.name: float(metrics[arm.name]["num_parameters"]) for arm in ARMS}
    return _trade_off(metrics, places, (name, measure), "size", "parameters")


def by_latency(metrics: Mapping[str, Any], latency: Mapping[str, Any], name: str, measure: Measure) -> Figure | None:
    """The test metric with its interval against the median latency at the smallest batch measured."""
    if not all(latency.get(arm.name) for arm in ARMS):
        return None
    size = min(latency["student"], key=int)
    places = {arm.name: float(latency[arm.name][size]["latency_p50_ms"]) for arm in ARMS}
    return _trade_off(metrics, places, (name, measure), "latency", f"latency p50 at batch {size} (ms)")


def _trade_off(
    metrics: Mapping[str, Any], places: Mapping[str, float], primary: tuple[str, Measure], cost: str, cost_label: str
) -> Figure:
    name, measure = primary
    title = measure.title[:1].upper() + measure.title[1:]
    figure, axes = _figure(WIDE, f"{title} and {cost}", cost_label, f"test {_axis_label(measure)}")
    axes.set_xscale("log")
    for arm, place in zip(ARMS, _apart([places[arm.name] for arm in ARMS]), strict=True):
        value, low, high = (_scale(measure) * metrics[arm.name][key] for key in (name, f"{name}_low", f"{name}_high"))
        bars = [[max(value - low, 0.0)], [max(high - value, 0.0)]]
        axes.errorbar(
            [place], [value], yerr=bars, fmt=arm.marker, color=arm.colour, label=arm.title,
            capsize=4, markersize=7, linewidth=1.8,
        )  # fmt: skip
    _room_beside(axes, list(places.values()))
    _legend(axes, loc="lower right" if measure.better == "higher" else "upper right")
    return figure


def _apart(places: Sequence[float], step: float = 1.12) -> list[float]:
    """Move equal places a little apart (on a log axis), so that two students of one size do not hide each other."""
    moved: list[float] = []
    for place in places:
        free = place
        while any(1 / step < free / other < step for other in moved):
            free *= step
        moved.append(free)
    return moved


def _room_beside(axes: Axes, places: Sequence[float]) -> None:
    axes.set_xlim(min(places) / 2, max(places) * 2.5)
    _plain_numbers(axes.xaxis)


def _plain_numbers(axis: Axis) -> None:
    """Of a log axis: 0.5, 20, 10k instead of powers of ten; every decade alone where there are many."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    steps = (1.0, 2.0, 5.0) if high < 1000 * low else (1.0,)
    axis.set_major_locator(LogLocator(base=10, subs=steps, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    axis.set_minor_formatter(NullFormatter())


def reliability(report: ReportData, arm: Arm) -> Figure | None:
    """Accuracy against confidence, a point a bin with its Wilson interval; thin bins are drawn hollow."""
    from components.evaluation.statistics import wilson_interval

    bins = [row for row in report.table("reliability") if row["arm"] == arm.name]
    if not bins:
        return None
    figure, axes = _figure(
        NARROW, f"{arm.title}: ECE {100 * report.metrics[arm.name]['ece']:.2f} %", "confidence", "accuracy"
    )
    axes.plot([0, 1], [0, 1], color=INK, alpha=0.4, linewidth=1, linestyle=":")
    for row in bins:
        count, confidence, share = int(row["num_rows"]), float(row["confidence"]), float(row["accuracy"])
        spread = wilson_interval(round(share * count), count, confidence=report.params.evaluate.confidence)
        fill = arm.colour if count >= THIN_BIN else "none"
        axes.errorbar(
            [confidence], [share], yerr=[[share - spread.low], [spread.high - share]], fmt=arm.marker, color=arm.colour,
            markerfacecolor=fill, markersize=5, linewidth=1, capsize=2, alpha=1.0 if count >= THIN_BIN else 0.6,
        )  # fmt: skip
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    return figure


def predictions(report: ReportData, arm: Arm) -> Figure | None:
    """What a model said against the labels, a point a sample and target."""
    points = [
        (float(row["label"]), float(row["predicted"])) for row in report.table("predictions") if row["arm"] == arm.name
    ]
    if not points:
        return None
    figure, axes = _figure(NARROW, arm.title, "label", "predicted")
    ends = (min(map(min, points)), max(map(max, points)))
    axes.plot(ends, ends, color=INK, alpha=0.4, linewidth=1, linestyle=":")
    labels, predicted = zip(*points, strict=True)
    axes.scatter(labels, predicted, s=12, marker=arm.marker, color=arm.colour, alpha=0.6, linewidths=0)
    return figure


def confusion(report: ReportData) -> Figure | None:
    """The student's predictions by class, as shares of each class; counts are written in where they fit."""
    import numpy as np

    pairs = report.table("confusion")
    if not pairs:
        return None
    names = [entry["class_name"] for entry in report.metrics["per_class"]]
    label = {name: index for index, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(counts, ([label[row["class"]] for row in pairs], [label[row["predicted"]] for row in pairs]), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = (4.8, 4.6) if len(names) <= MAX_CLASSES_COUNTED else (6.4, 6.2)
    figure, axes = _figure(size, "Confusion of the distilled student", "predicted", "class", grid=False)
    _cells(axes, shares)
    if len(names) <= MAX_CLASSES_COUNTED:
        _cell_counts(axes, counts, shares)
    _class_ticks(axes, names)
    return figure


def _cells(axes: Axes, shares: NDArray[np.float64]) -> None:
    """Cells of one hue whose opacity is the share, so that they suit a light and a dark page alike."""
    import numpy as np
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgb

    classes = len(shares)
    # The square root lifts the rare confusions, which are what one looks for, out of the background.
    opacity = np.where(shares > 0, 0.1 + 0.9 * np.sqrt(shares), 0.0)
    corners = [
        [(c - 0.5, r - 0.5), (c + 0.5, r - 0.5), (c + 0.5, r + 0.5), (c - 0.5, r + 0.5)]
        for r in range(classes)
        for c in range(classes)
        if opacity[r, c] > 0
    ]
    colours = [(*to_rgb(ARMS[1].colour), float(value)) for value in opacity.ravel() if value > 0]
    axes.add_collection(PolyCollection(corners, facecolors=colours, edgecolors="none"))
    axes.set(xlim=(-0.5, classes - 0.5), ylim=(classes - 0.5, -0.5), aspect="equal")


def _cell_counts(axes: Axes, counts: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    for row in range(len(counts)):
        for column in range(len(counts)):
            if counts[row, column]:
                colour = "white" if shares[row, column] > 0.3 else INK
                text = short_number(int(counts[row, column]))
                axes.text(column, row, text, ha="center", va="center", fontsize=FONT_POINTS - 1, color=colour)


def _class_ticks(axes: Axes, names: Sequence[str]) -> None:
    if len(names) > MAX_CLASSES_NAMED:
        return
    shown = [shortened(name, 14) for name in names]
    slant: dict[str, Any] = (
        {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if max(map(len, shown)) > 2 else {}
    )
    axes.set_xticks(range(len(names)), shown, parse_math=False, **slant)
    axes.set_yticks(range(len(names)), shown, parse_math=False)
    axes.tick_params(length=0)


def soft_example(
    sample: NDArray[np.uint8] | None,
    student: NDArray[np.float64],
    teacher: NDArray[np.float64],
    names: Sequence[str],
    title: str,
) -> Figure:
    """One sample and what both models say about it, as softened probabilities [C]; the likeliest classes only."""
    figure = _canvas((4.8, 2.6))
    widths = [1, 2] if sample is not None else [1]
    *beside, axes = figure.subplots(1, len(widths), squeeze=False, width_ratios=widths)[0]
    if sample is not None:
        _picture(beside[0], sample)
    _dress(axes, "", "probability", "", grid=False)
    order = _likeliest(student, teacher)
    _paired_bars(axes, student[order], teacher[order], [names[index] for index in order])
    look = {"fontsize": FONT_POINTS + 1, "color": INK, "fontweight": "bold", "x": 0.01, "ha": "left"}
    figure.suptitle(textwrap.fill(title, 60), parse_math=False, **look)
    return figure


def _likeliest(student: NDArray[np.float64], teacher: NDArray[np.float64]) -> NDArray[np.int64]:
    """Indices of at most MAX_BARS classes, in label order."""
    import numpy as np

    rank = np.argsort(-np.maximum(student, teacher), kind="stable")
    return np.sort(rank[:MAX_BARS])


def _paired_bars(axes: Axes, student: NDArray[np.float64], teacher: NDArray[np.float64], names: Sequence[str]) -> None:
    for offset, values, arm in ((-0.2, teacher, ARMS[0]), (0.2, student, ARMS[2])):
        places = [index + offset for index in range(len(names))]
        axes.barh(places, values, height=0.38, color=arm.colour, label=arm.title)
    axes.set_yticks(range(len(names)), [shortened(name, 12) for name in names], parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, labelsize=FONT_POINTS - 1)
    _legend(axes, loc="best")


def _picture(axes: Axes, sample: NDArray[np.uint8]) -> None:
    """[channels, height, width] uint8, drawn without smoothing."""
    picture = sample.transpose(1, 2, 0) if sample.shape[0] == 3 else sample[0]
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_axis_off()


def is_picture(sample_shape: Sequence[int]) -> bool:
    """Whether [S] is (1 or 3 channels, height, width)."""
    return len(sample_shape) == 3 and sample_shape[0] in (1, 3)


def _figure(
    size: tuple[float, float], title: str, x_label: str, y_label: str, *, grid: bool = True
) -> tuple[Figure, Axes]:
    figure = _canvas(size)
    axes = figure.add_subplot()
    _dress(axes, title, x_label, y_label, grid=grid)
    return figure, axes


def _canvas(size: tuple[float, float]) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained", facecolor="none")


def _dress(axes: Axes, title: str, x_label: str, y_label: str, *, grid: bool) -> None:
    axes.set_facecolor("none")
    axes.set_title(title, fontsize=FONT_POINTS + 1, color=INK, loc="left", fontweight="bold")
    axes.set_xlabel(x_label, fontsize=FONT_POINTS, color=INK)
    axes.set_ylabel(y_label, fontsize=FONT_POINTS, color=INK)
    axes.tick_params(labelsize=FONT_POINTS, colors=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    if grid:
        axes.grid(color=INK, alpha=0.12, linewidth=0.8)
        axes.set_axisbelow(True)


def _legend(axes: Axes, **options: Any) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=FONT_POINTS - 1, labelcolor=INK, **options)


def _mark_if_short(points: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """A line of one or two points cannot be seen."""
    return {"marker": "o", "markersize": 4} if len(points) <= 3 else {}


def _log_if_wide(axes: Axes) -> None:
    import numpy as np

    values = np.concatenate([np.asarray(line.get_ydata(), dtype=np.float64) for line in axes.get_lines()])
    positive = values[values > 0]
    if len(positive) and positive.max() > 30 * positive.min():
        axes.set_yscale("log")
        _plain_numbers(axes.yaxis)


def _whole_epochs(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))


def short_number(value: float) -> str:
    """950, 12k, 1.5M; small values as they are."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= limit:
            return f"{value / (1e3 if unit == 'k' else limit):g}{unit}"
    return f"{value:g}"


def shortened(name: str, limit: int) -> str:
    """Cut in the middle: names of classes tend to share how they begin."""
    head = (limit - 1) // 2
    return name if len(name) <= limit else f"{name[:head]}…{name[-(limit - 1 - head) :]}"


def png(figure: Figure, path: Path) -> Path:
    """On white, for viewers that show pictures on their own."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set(dpi=PNG_DOTS_PER_INCH, facecolor="white")
    with _drawing():
        # The canvas's own method lays out and draws once; Figure.savefig does both twice.
        FigureCanvasAgg(figure).print_png(path, metadata={"Software": None})
    return path


def inline_svg(figure: Figure, description: str) -> str:
    """An <svg> element to put inside a page: its ink is the page's own text colour, and it names no other address."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    stream = io.StringIO()
    with _drawing():
        FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None, "Creator": None})
    body = stream.getvalue()[stream.getvalue().index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", body)
    body = re.sub(r'\s(width|height)="[\d.]+pt"', "", body, count=2).replace(INK, "currentColor")
    return body.replace("<svg", f'<svg role="img" aria-label="{_attribute(description)}"', 1)


@contextmanager
def _drawing() -> Iterator[None]:
    """Reproducible ids, text as outlines; a class name in a script that the font lacks shows boxes, not warnings."""
    import matplotlib

    with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": "potstill", "svg.fonttype": "path"}):
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def _attribute(text: str) -> str:
    from html import escape

    return escape(text, quote=True)
