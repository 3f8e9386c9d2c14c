"""The report's figures: what a run and its evaluation look like."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from components.contracts import Measure
from components.report.canvas import (
    FONT_POINTS,
    NARROW,
    WIDE,
    apart,
    axis_label,
    canvas,
    dress,
    legend,
    log_if_wide,
    mark_if_short,
    new_figure,
    room_beside,
    scale_of,
    short_number,
    shortened,
    whole_epochs,
)
from components.report.data import ReportData
from components.report.style import ARMS, INK, Arm

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

MAX_CLASSES_NAMED = 20
MAX_CLASSES_COUNTED = 12
MAX_BARS = 10
THIN_BIN = 10
MAX_TARGETS = 4


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
        **predictions(report),
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
    figure, axes = new_figure(WIDE, "Losses of the distilled student", "epoch", "training loss")
    for (name, label, line), colour in zip(parts, colours, strict=True):
        points = [(record["epoch"], record[name]) for record in history if record.get(name) is not None]
        if points:
            axes.plot(
                *zip(*points, strict=True), line, color=colour, label=label, linewidth=1.6, **mark_if_short(points)
            )
    log_if_wide(axes)
    whole_epochs(axes)
    legend(axes)
    return figure


def validation_curve(
    histories: Mapping[str, Sequence[Mapping[str, Any]]], name: str, measure: Measure
) -> Figure | None:
    """The metric on the validation split after each epoch, one line an arm that was trained here."""
    if not any(histories.values()):
        return None
    figure, axes = new_figure(WIDE, f"Validation {measure.title}", "epoch", axis_label(measure))
    for arm in ARMS:
        records = [record for record in histories.get(arm.name, ()) if record.get(f"validation_{name}") is not None]
        points = [(record["epoch"], scale_of(measure) * record[f"validation_{name}"]) for record in records]
        if points:
            line = (0, arm.dashes) if arm.dashes else "-"
            axes.plot(
                *zip(*points, strict=True), color=arm.colour, linestyle=line, label=arm.title, linewidth=1.6,
                **mark_if_short(points),
            )  # fmt: skip
    whole_epochs(axes)
    legend(axes)
    return figure


def by_parameters(metrics: Mapping[str, Any], name: str, measure: Measure) -> Figure | None:
    """The test metric with its interval against the number of parameters; None of a black box, which has none known."""
    if not metrics["teacher"]["num_parameters"]:
        return None
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
    figure, axes = new_figure(WIDE, f"{title} and {cost}", cost_label, f"test {axis_label(measure)}")
    axes.set_xscale("log")
    for arm, place in zip(ARMS, apart([places[arm.name] for arm in ARMS]), strict=True):
        value, low, high = (scale_of(measure) * metrics[arm.name][key] for key in (name, f"{name}_low", f"{name}_high"))
        bars = [[max(value - low, 0.0)], [max(high - value, 0.0)]]
        axes.errorbar(
            [place], [value], yerr=bars, fmt=arm.marker, color=arm.colour, label=arm.title,
            capsize=4, markersize=7, linewidth=1.8,
        )  # fmt: skip
    room_beside(axes, list(places.values()))
    legend(axes, loc="lower right" if measure.better == "higher" else "upper center")
    return figure


def reliability(report: ReportData, arm: Arm) -> Figure | None:
    """Accuracy against confidence, a point a bin with its Wilson interval; thin bins are drawn hollow."""
    from components.evaluation.statistics import wilson_interval

    bins = [row for row in report.table("reliability") if row["arm"] == arm.name]
    if not bins:
        return None
    figure, axes = new_figure(
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


def predictions(report: ReportData) -> dict[str, Figure]:
    """What each model said against the labels: a figure an arm and target, of the first MAX_TARGETS, a point a sample."""
    points: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in report.table("predictions"):
        pair = (float(row["label"]), float(row["predicted"]))
        points.setdefault((row["target"], row["arm"]), []).append(pair)
    targets = list(dict.fromkeys(target for target, _ in points))[:MAX_TARGETS]
    return {
        f"predictions_{number}_{arm.name}": _predicted(points[target, arm.name], target, arm)
        for number, target in enumerate(targets, start=1)
        for arm in ARMS
    }


def _predicted(points: Sequence[tuple[float, float]], target: str, arm: Arm) -> Figure:
    figure, axes = new_figure(NARROW, arm.title, "label", "predicted")
    axes.set_xlabel(f"label ({shortened(target, 20)})", parse_math=False)
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
    figure, axes = new_figure(size, "Confusion of the distilled student", "predicted", "class", grid=False)
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
    figure = canvas((4.8, 2.6))
    widths = [1, 2] if sample is not None else [1]
    *beside, axes = figure.subplots(1, len(widths), squeeze=False, width_ratios=widths)[0]
    if sample is not None:
        _picture(beside[0], sample)
    dress(axes, "", "probability", "", grid=False)
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
    legend(axes, loc="best")


def _picture(axes: Axes, sample: NDArray[np.uint8]) -> None:
    """[channels, height, width] uint8, drawn without smoothing."""
    picture = sample.transpose(1, 2, 0) if sample.shape[0] == 3 else sample[0]
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_axis_off()


def is_picture(sample_shape: Sequence[int]) -> bool:
    """Whether [S] is (1 or 3 channels, height, width)."""
    return len(sample_shape) == 3 and sample_shape[0] in (1, 3)
