"""What the numbers say, in words that claim no more than they do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from components.contracts import Measure, Workload
from components.report.table import SPACE, change_interval, changed, written

Verdict = Literal["gain", "loss", "nothing"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What distillation gave beyond hard labels."""

    verdict: Verdict
    headline: str
    sentences: tuple[str, ...]


def find(metrics: Mapping[str, Any], workload: Workload) -> Finding:
    """Judge the paired difference of distilled and hard labels in metrics.json."""
    name, change = workload.primary_metric, metrics["differences"]["student_minus_baseline"]
    measure = workload.measures[name]
    verdict = _verdict(change[name], measure)
    sentences = tuple(_sentences(metrics, change, workload, verdict))
    return Finding(verdict, _headline(verdict, change[name], measure), sentences)


def _sign(measure: Measure) -> int:
    return 1 if measure.better == "higher" else -1


def _verdict(difference: Mapping[str, float], measure: Measure) -> Verdict:
    """An interval that touches zero shows nothing."""
    low, high = sorted(_sign(measure) * difference[end] for end in ("low", "high"))
    return "gain" if low > 0 else "loss" if high < 0 else "nothing"


def _headline(verdict: Verdict, change: Mapping[str, float], measure: Measure) -> str:
    moved = changed(measure, abs(change["difference"])).removeprefix("+")
    more_is_better = measure.better == "higher"
    if verdict == "gain":
        return f"Distillation {'raised' if more_is_better else 'lowered'} {measure.title} by {moved}"
    if verdict == "loss":
        cost = f"cost {moved} of {measure.title}" if more_is_better else f"raised {measure.title} by {moved}"
        return f"Distillation {cost}: the hard labels alone serve this student better"
    return f"No measurable gain in {measure.title} on this data"


def _sentences(
    metrics: Mapping[str, Any], change: Mapping[str, Any], workload: Workload, verdict: Verdict
) -> Iterator[str]:
    primary = workload.primary_metric
    yield _primary_sentence(metrics, change, primary, workload.measures[primary])
    if verdict == "gain" and (share := _gap_closed(metrics, primary, workload.measures[primary])) is not None:
        yield f"That closes {100 * share:.0f}{SPACE}% of the gap between the hard-label student and the teacher."
    for name, measure in workload.measures.items():
        if name in change and name != primary:
            yield _further_sentence(change[name], measure)
    for name, measure in list(workload.fidelity_measures.items())[:1]:
        yield _fidelity_sentence(metrics, name, measure)
    yield (
        "The intervals speak about other test samples of the same kind. They say nothing about other seeds: "
        "here each arm was trained once."
    )


def _primary_sentence(metrics: Mapping[str, Any], change: Mapping[str, Any], name: str, measure: Measure) -> str:
    found = change[name]
    span = change_interval(measure, found["low"], found["high"])
    level = f"{100 * metrics['confidence']:g}{SPACE}%"
    zero = ", which includes zero" if found["low"] <= 0 <= found["high"] else ""
    student, baseline = (written(measure, metrics[arm][name]) for arm in ("student", "baseline"))
    return (
        f"On the same {metrics['holdout']['num_rows']:,} test samples the distilled student's {measure.title} is {student} "
        f"and the hard-label student's {baseline}: {changed(measure, found['difference'])}, {level} interval "
        f"{span}{zero}.{_discordant(change)}"
    )


def _discordant(change: Mapping[str, Any]) -> str:
    """Where samples are right or wrong."""
    if "mcnemar_p_value" not in change:
        return ""
    return (
        f" {change['first_only_right']} samples only the distilled student got right, {change['second_only_right']} only the "
        f"other (McNemar, p {_p_value(change['mcnemar_p_value'])})."
    )


def _further_sentence(change: Mapping[str, float], measure: Measure) -> str:
    words = {
        "gain": "better than the hard-label student's",
        "loss": "worse than the hard-label student's",
        "nothing": "neither measurably better nor worse",
    }
    span = change_interval(measure, change["low"], change["high"])
    return (
        f"Its {measure.title} is {words[_verdict(change, measure)]}: {changed(measure, change['difference'])} ({span})."
    )


def _fidelity_sentence(metrics: Mapping[str, Any], name: str, measure: Measure) -> str:
    ours, theirs = (written(measure, metrics[arm][name]) for arm in ("student", "baseline"))
    return f"Its {measure.title} is {ours}; the hard-label student's is {theirs}."


def _gap_closed(metrics: Mapping[str, Any], name: str, measure: Measure) -> float | None:
    """Share of the teacher's lead over hard labels that distillation made up; None where it has none."""
    teacher, baseline, student = (_sign(measure) * metrics[arm][name] for arm in ("teacher", "baseline", "student"))
    return (student - baseline) / (teacher - baseline) if teacher > baseline else None


def _p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}" if p < 0.1 else f"= {p:.2f}"
