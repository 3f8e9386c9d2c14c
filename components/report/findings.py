"""What the numbers say, in words that claim no more than they do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from components.report.table import SPACE, percent, signed, signed_interval

Verdict = Literal["gain", "loss", "nothing"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What distillation gave beyond hard labels."""

    verdict: Verdict
    headline: str
    sentences: tuple[str, ...]


def find(metrics: Mapping[str, Any]) -> Finding:
    """Judge the paired difference of distilled and hard labels in metrics.json."""
    change = metrics["differences"]["student_minus_baseline"]
    verdict = _verdict(change["accuracy"], better=1)
    return Finding(verdict, _headline(verdict, change["accuracy"]), tuple(_sentences(metrics, change, verdict)))


def _verdict(difference: Mapping[str, float], *, better: int) -> Verdict:
    """*better*: 1 where more is better, -1 where less is; an interval that touches zero shows nothing."""
    if difference["low"] > 0:
        return "gain" if better > 0 else "loss"
    if difference["high"] < 0:
        return "loss" if better > 0 else "gain"
    return "nothing"


def _headline(verdict: Verdict, accuracy: Mapping[str, float]) -> str:
    points = f"{abs(100 * accuracy['difference']):.2f} points"
    if verdict == "gain":
        return f"Distillation raised accuracy by {points}"
    if verdict == "loss":
        return f"Distillation cost {points} of accuracy: the hard labels alone serve this student better"
    return "No measurable gain in accuracy on this data"


def _sentences(metrics: Mapping[str, Any], change: Mapping[str, Any], verdict: Verdict) -> Iterator[str]:
    yield _accuracy_sentence(metrics, change)
    if verdict == "gain" and (share := _gap_closed(metrics)) is not None:
        yield f"That closes {100 * share:.0f}{SPACE}% of the gap between the hard-label student and the teacher."
    yield _nll_sentence(change["nll"])
    yield _agreement_sentence(metrics)
    yield (
        "The intervals speak about other test samples of the same kind. They say nothing about other seeds: "
        "here each arm was trained once."
    )


def _accuracy_sentence(metrics: Mapping[str, Any], change: Mapping[str, Any]) -> str:
    accuracy = change["accuracy"]
    span = signed_interval(100 * accuracy["low"], 100 * accuracy["high"])
    level = f"{100 * metrics['confidence']:g}{SPACE}%"
    zero = ", which includes zero" if accuracy["low"] <= 0 <= accuracy["high"] else ""
    return (
        f"On the same {metrics['holdout']['num_rows']:,} test samples the distilled student scored "
        f"{percent(metrics['student']['accuracy'])} and the hard-label student {percent(metrics['baseline']['accuracy'])}: "
        f"{signed(100 * accuracy['difference'])} points, {level} interval {span}{zero}. "
        f"{change['first_only_right']} samples only the distilled student got right, {change['second_only_right']} only the "
        f"other (McNemar, p {_p_value(change['mcnemar_p_value'])})."
    )


def _nll_sentence(nll: Mapping[str, float]) -> str:
    span = signed_interval(nll["low"], nll["high"], 3)
    words = {
        "gain": "Its probabilities are better than the hard-label student's",
        "loss": "Its probabilities are worse than the hard-label student's",
        "nothing": "Its probabilities are neither measurably better nor worse",
    }
    return f"{words[_verdict(nll, better=-1)]}: negative log-likelihood {signed(nll['difference'], 3)} ({span})."


def _agreement_sentence(metrics: Mapping[str, Any]) -> str:
    ours, theirs = (metrics[arm]["agreement_with_teacher"] for arm in ("student", "baseline"))
    return f"It agrees with the teacher on {percent(ours)} of the samples; the hard-label student does on {percent(theirs)}."


def _gap_closed(metrics: Mapping[str, Any]) -> float | None:
    """Share of the teacher's lead over hard labels that distillation made up; None where it has none."""
    gap = metrics["teacher"]["accuracy"] - metrics["baseline"]["accuracy"]
    return (metrics["student"]["accuracy"] - metrics["baseline"]["accuracy"]) / gap if gap > 0 else None


def _p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}" if p < 0.1 else f"= {p:.2f}"
