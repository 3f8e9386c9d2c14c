"""The figures of a sweep: T against alpha, and what accuracy costs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from components.evaluation.over_seeds import spread
from components.report.canvas import (
    FONT_POINTS,
    WIDE,
    axis_label,
    legend,
    new_figure,
    plain_numbers,
    room_beside,
    scale_of,
)
from components.report.style import ARMS, INK, Arm
from components.sweeps.results import SweepResult, TrialResult
from components.sweeps.space import described, in_words, short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_MAPS = 6
"""More combinations of the other parameters than that are left to the table."""
MAX_CELLS = 12
"""More values of T or alpha than that are drawn as points."""
HEAT = "cividis"
BESIDE = 1.06
"""Hard labels are drawn a little to the right of the students of their size, so that neither hides the other."""
TEACHER, HARD, DISTILLED = ARMS
COST_LABELS = {"num_parameters": "parameters", "latency_p50_ms": "latency p50 of one call (ms)"}


def figures(result: SweepResult) -> dict[str, Figure]:
    """File name without ending -> figure; what was not swept is left out."""
    if not result.complete:
        return {}
    fronts = {f"front_{cost}": front(result, cost) for cost in COST_LABELS}
    return {**heat_maps(result), **by_parameter(result), **fronts}


def heat_maps(result: SweepResult) -> dict[str, Figure]:
    """T against alpha, one map for each combination of what else was swept, the best combinations first."""
    names = _temperature_and_alpha(result.trials)
    if names is None:
        return {}
    groups: dict[str, list[TrialResult]] = {}
    for trial in (*result.complete, *result.trials):
        group = groups.setdefault(json.dumps(_others(trial, names), sort_keys=True), [])
        if trial not in group:
            group.append(trial)
    shown = list(groups.values())[:MAX_MAPS]
    return {f"heat_map_{number}": _heat_map(result, names, group) for number, group in enumerate(shown, start=1)}


def _temperature_and_alpha(trials: Sequence[TrialResult]) -> tuple[str, str] | None:
    """Their names, where both take a few numbers each."""
    swept = {name for trial in trials for name in trial.values}
    found = [next((name for name in swept if name.endswith(f".{last}")), "") for last in ("temperature", "alpha")]
    if not all(found):
        return None
    for name in found:
        values = {json.dumps(trial.values.get(name)) for trial in trials}
        if not 1 < len(values) <= MAX_CELLS or not all(_is_number(json.loads(value)) for value in values):
            return None
    return found[0], found[1]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _others(trial: TrialResult, names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in trial.values.items() if name not in names}


def _heat_map(result: SweepResult, names: tuple[str, str], trials: Sequence[TrialResult]) -> Figure:
    temperatures, alphas = (sorted({trial.values[name] for trial in result.trials}) for name in names)
    others = _others(trials[0], names)
    size = (max(3.6, 1.5 + 0.75 * len(temperatures)), max(2.4, 1.4 + 0.45 * len(alphas)))
    figure, axes = new_figure(size, described(others) if others else "", "temperature T", "alpha", grid=False)
    _cells(axes, result, trials, places={
        trial.number: (temperatures.index(trial.values[names[0]]), alphas.index(trial.values[names[1]]))
        for trial in trials
    })  # fmt: skip
    axes.set_xticks(range(len(temperatures)), [in_words(value) for value in temperatures])
    axes.set_yticks(range(len(alphas)), [in_words(value) for value in alphas])
    axes.set(xlim=(-0.5, len(temperatures) - 0.5), ylim=(-0.5, len(alphas) - 0.5))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


def _cells(
    axes: Axes, result: SweepResult, trials: Sequence[TrialResult], *, places: Mapping[int, tuple[int, int]]
) -> None:
    """A square a trial with its mean written in; one scale of colours for all maps, a frame around the best."""
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    best, worst = _colour_ends(result)
    for trial in trials:
        column, row = places[trial.number]
        corner = (column - 0.48, row - 0.48)
        if trial.state != "complete":
            axes.add_patch(Rectangle(corner, 0.96, 0.96, facecolor="none", edgecolor=INK, alpha=0.4, linestyle=":"))
            axes.text(column, row, trial.state, ha="center", va="center", fontsize=FONT_POINTS - 2, color=INK)
            continue
        value = scale_of(result.measure) * trial.value(result.metric)
        share = min(1.0, max(0.0, (value - worst) / (best - worst))) if best != worst else 0.5
        axes.add_patch(Rectangle(corner, 0.96, 0.96, facecolor=colormaps[HEAT](share), edgecolor="none"))
        if result.recommendation and trial.number == result.recommendation.trial.number:
            colour = DISTILLED.colour
            axes.add_patch(Rectangle(corner, 0.96, 0.96, facecolor="none", edgecolor=colour, linewidth=2.5))
        colour = "black" if share > 0.55 else "white"
        axes.text(
            column,
            row,
            f"{value:.2f}" if result.measure.unit == "share" else f"{value:.4g}",
            ha="center",
            va="center",
            fontsize=FONT_POINTS - 0.5,
            color=colour,
        )


def _colour_ends(result: SweepResult) -> tuple[float, float]:
    """Of the best trial, and of one thrice as far from it as the median: a hopeless one must not make all others alike."""
    values = [scale_of(result.measure) * trial.value(result.metric) for trial in result.complete]
    best, worst, median = values[0], values[-1], values[len(values) // 2]
    return best, (max if best >= worst else min)(worst, best - 3 * (best - median) if median != best else worst)


def by_parameter(result: SweepResult) -> dict[str, Figure]:
    """The metric against each number that was swept, a point a trial; not for those that a heat map shows."""
    mapped = _temperature_and_alpha(result.trials) or ()
    names = [name for name, value in result.trials[0].values.items() if _is_number(value) and name not in mapped]
    return {f"by_{name.rpartition('.')[2]}": _by_parameter(result, name) for name in names}


def _by_parameter(result: SweepResult, name: str) -> Figure:
    points = [(trial.values[name], scale_of(result.measure) * trial.value(result.metric)) for trial in result.complete]
    figure, axes = new_figure(
        WIDE, f"By {short_name(name)}", short_name(name), f"validation {axis_label(result.measure)}"
    )
    axes.plot(*zip(*points, strict=True), DISTILLED.marker, color=DISTILLED.colour, alpha=0.75, markersize=5)
    values = [value for value, _ in points]
    if min(values) > 0 and max(values) > 20 * min(values):
        axes.set_xscale("log")
        plain_numbers(axes.xaxis)
    return figure


def front(result: SweepResult, cost: str) -> Figure:
    """The metric against *cost*: every trial, the front, the teacher, and the student on hard labels alone."""
    title = f"{result.measure.title[:1].upper()}{result.measure.title[1:]} and {COST_LABELS[cost].partition(' ')[0]}"
    figure, axes = new_figure(WIDE, title, COST_LABELS[cost], f"validation {axis_label(result.measure)}")
    axes.set_xscale("log")
    kept, teacher = result.front(cost), getattr(result.teacher, cost)
    rest = [trial for trial in result.complete if trial not in kept]
    hard = result.hard_labels or _only(result.control)
    _marks(axes, result, cost, rest, DISTILLED, label="distilled", alpha=0.45)
    line = [(trial.value(cost), scale_of(result.measure) * trial.value(result.metric)) for trial in kept]
    axes.plot(*zip(*line, strict=True), color=DISTILLED.colour, linewidth=1.4, drawstyle="steps-post")
    _marks(axes, result, cost, kept, DISTILLED, label="Pareto front", alpha=1.0, bars=True)
    _marks(axes, result, cost, hard, HARD, label=HARD.title, alpha=1.0, bars=True, moved=BESIDE)
    places = [trial.value(cost) for trial in (*result.complete, *hard)]
    if teacher and result.metric in result.teacher.metrics:
        value = scale_of(result.measure) * result.teacher.metrics[result.metric]
        axes.plot([teacher], [value], TEACHER.marker, color=TEACHER.colour, markersize=7, label=TEACHER.title)
        places.append(float(teacher))
    room_beside(axes, places)
    _leave_out_the_hopeless(axes, result, [*kept, *hard])
    legend(axes, loc="lower right" if result.measure.better == "higher" else "upper right")
    return figure


def _leave_out_the_hopeless(axes: Axes, result: SweepResult, shown: Sequence[TrialResult]) -> None:
    """Trials far worse than what is to be compared would press it into a line; how many are not shown is said."""
    scale = scale_of(result.measure)
    everyone = [scale * trial.value(result.metric) for trial in result.complete]
    wanted = [scale * trial.value(result.metric) for trial in shown]
    if result.metric in result.teacher.metrics:
        wanted.append(scale * result.teacher.metrics[result.metric])
    room = 0.5 * (max(wanted) - min(wanted))
    low, high = min(wanted) - room, max(wanted) + room
    hopeless = sum(not low <= value <= high for value in everyone)
    if not hopeless or not room:
        return
    if result.measure.better == "higher":
        axes.set_ylim(bottom=low)
    else:
        axes.set_ylim(top=high)
    axes.text(
        0.02, 0.03, f"{hopeless} of {len(everyone)} trials lie off the picture", transform=axes.transAxes,
        fontsize=FONT_POINTS - 2, color=INK,
    )  # fmt: skip


def _only(trial: TrialResult | None) -> Sequence[TrialResult]:
    return (trial,) if trial else ()


def _marks(
    axes: Axes, result: SweepResult, cost: str, trials: Sequence[TrialResult], arm: Arm, *,
    label: str, alpha: float, bars: bool = False, moved: float = 1.0,
) -> None:  # fmt: skip
    """A mark a trial at its mean; hollow, or with the deviation over its seeds where *bars* asks for it."""
    if not trials:
        return
    scale = scale_of(result.measure)
    found = [spread(trial.each(result.metric)) for trial in trials]
    deviations = [scale * (each.sd or 0.0) for each in found] if bars else None
    axes.errorbar(
        [moved * trial.value(cost) for trial in trials], [scale * each.mean for each in found], yerr=deviations, fmt=arm.marker,
        color=arm.colour, markerfacecolor=arm.colour if bars else "none", label=label, alpha=alpha, capsize=3, markersize=6,
        linewidth=1.2, linestyle="none",
    )  # fmt: skip
