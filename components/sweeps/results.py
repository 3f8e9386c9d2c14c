"""What a sweep came to: every trial on the validation split, the front, and what is recommended with how sure that is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from components.contracts import Measure
from components.evaluation.over_seeds import paired_difference, spread
from components.params import COSTS
from components.sweeps.space import Values, described

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Student:
    """One student of a trial."""

    seed: int
    key: str
    digest: str
    metrics: Mapping[str, float]
    """On the validation split."""


@dataclass(frozen=True, slots=True)
class TrialResult:
    """A trial that is over, or, with number -1, students on hard labels alone."""

    number: int
    state: Literal["complete", "pruned", "failed"]
    values: Values
    students: tuple[Student, ...] = ()
    num_parameters: int = 0
    latency_p50_ms: float = math.nan
    reason: str = ""

    def each(self, metric: str) -> list[float]:
        """By seed, in the order of the seeds."""
        return [student.metrics[metric] for student in self.students]

    def value(self, objective: str) -> float:
        """Mean over the seeds, or the cost."""
        return float(getattr(self, objective)) if objective in COSTS else spread(self.each(objective)).mean


@dataclass(frozen=True, slots=True)
class TeacherResult:
    """What the students learnt from."""

    metrics: Mapping[str, float]
    """On the validation split."""
    num_parameters: int | None
    latency_p50_ms: float


@dataclass(frozen=True, slots=True)
class Certainty:
    """An interval of the recommended trial, and what it is of."""

    what: str
    """Such as 'accuracy less that of hard labels, same seeds'."""
    method: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One trial, why it, how sure, and which others are as good as it for all that is known."""

    trial: TrialResult
    why: str
    certainty: Certainty | None
    as_good: tuple[int, ...]
    """Numbers of the trials that are not measurably worse than the best one, see `recommended`."""


@dataclass(frozen=True, slots=True)
class SweepResult:
    """Everything that the page, the table and sweep.json show."""

    name: str
    metric: str
    """The first objective that is a metric; what trials are judged by."""
    measure: Measure
    objectives: tuple[str, ...]
    measures: Mapping[str, Measure]
    trials: tuple[TrialResult, ...]
    hard_labels: tuple[TrialResult, ...]
    """One for each student model that the space lists."""
    control: TrialResult | None
    """The hard-label students of the recommended trial: everything but the objective as there."""
    teacher: TeacherResult
    num_validation_rows: int
    recommendation: Recommendation | None
    num_trained: int
    num_found: int
    seconds: float

    @property
    def complete(self) -> list[TrialResult]:
        """The best first, by the metric."""
        done = [trial for trial in self.trials if trial.state == "complete"]
        return sorted(done, key=lambda trial: _sign(self.measure) * -trial.value(self.metric))

    def front(self, cost: str) -> list[TrialResult]:
        """Trials that no other beats in both the metric and *cost*; the cheapest first."""
        kept: list[TrialResult] = []
        for trial in sorted(self.complete, key=lambda one: one.value(cost)):
            if not kept or _better(self.measure, trial.value(self.metric), kept[-1].value(self.metric)):
                kept.append(trial)
        return kept


def _sign(measure: Measure) -> int:
    return 1 if measure.better == "higher" else -1


def _better(measure: Measure, value: float, other: float) -> bool:
    return _sign(measure) * (value - other) > 0


def recommended(
    trials: Sequence[TrialResult], *, metric: str, measure: Measure, objectives: Sequence[str], num_rows: int
) -> tuple[TrialResult, tuple[int, ...], str] | None:
    """The best by *metric*; where a cost is an objective too, the cheapest that is not measurably worse than it."""
    done = [trial for trial in trials if trial.state == "complete"]
    if not done:
        return None
    best = max(done, key=lambda trial: (_sign(measure) * trial.value(metric), -trial.number))
    near = [trial for trial in done if trial is not best and not _worse(trial, best, metric, measure, num_rows)]
    costs = [name for name in objectives if name in COSTS]
    chosen = min((best, *near), key=lambda trial: [trial.value(cost) for cost in costs]) if costs else best
    as_good = tuple(trial.number for trial in (best, *near) if trial is not chosen)
    if chosen is best:
        return best, as_good, f"the best mean {measure.title} on the validation split"
    why = f"the smallest {' and '.join(costs)} among the trials that are not measurably worse than the best ({best.number})"
    return chosen, as_good, why


def _worse(trial: TrialResult, best: TrialResult, metric: str, measure: Measure, num_rows: int) -> bool:
    """Measurably: by the paired t-interval over the seeds, or by lying outside the best one's own Wilson interval.

    Two seeds alone tell next to nothing apart: t is 12.7 then.
    """
    span = _wilson(best, metric, measure, num_rows)
    if span is not None and (
        trial.value(metric) < span[0] if measure.better == "higher" else trial.value(metric) > span[1]
    ):
        return True
    if len(best.students) == 1:
        return span is None and trial.value(metric) != best.value(metric)
    found = paired_difference(trial.each(metric), best.each(metric), confidence=CONFIDENCE)
    return found.high < 0 if measure.better == "higher" else found.low > 0


def _wilson(trial: TrialResult, metric: str, measure: Measure, num_rows: int) -> tuple[float, float] | None:
    """Of a share of the validation rows; None for other metrics."""
    from components.evaluation.statistics import wilson_interval

    if measure.of_rows != "share":
        return None
    found = wilson_interval(round(trial.value(metric) * num_rows), num_rows, confidence=CONFIDENCE)
    return found.low, found.high


def certainty(
    trial: TrialResult, control: TrialResult | None, metric: str, measure: Measure, num_rows: int
) -> Certainty | None:
    """Paired t over the seeds against hard labels; with one seed the Wilson interval of the metric itself."""
    if control and len(trial.students) > 1:
        found = paired_difference(trial.each(metric), control.each(metric), confidence=CONFIDENCE)
        what = f"{measure.title} less that of hard labels, on the same {found.n} seeds"
        return Certainty(what, f"paired t over {found.n} seeds", found.mean, found.low, found.high)
    span = _wilson(trial, metric, measure, num_rows)
    if span is None:
        return None
    method = f"Wilson, one seed, {num_rows:,} validation samples"
    return Certainty(measure.title, method, trial.value(metric), *span)


def to_paste(values: Values) -> str:
    """The values as a piece of params.yaml."""
    tree: dict[str, Any] = {}
    for name, value in values.items():
        *parents, last = name.split(".")
        inner = tree
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = value
    return yaml.safe_dump(tree, sort_keys=False, default_flow_style=None, allow_unicode=True).strip()


def to_set(values: Values) -> list[str]:
    """The values as options of `potstill run`."""
    return [f"--set {name}={_flow(value)}" for name, value in values.items()]


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False).removesuffix("\n...\n").strip()
    return f"'{text}'" if isinstance(value, dict | list) else text


def to_json(result: SweepResult) -> dict[str, Any]:
    """All of it, for programs; what is not a number is left out."""
    from dataclasses import asdict

    told = asdict(result)
    told["measures"] = {name: measure.title for name, measure in result.measures.items()}
    told["measure"] = result.measure.title
    for cost in COSTS:
        told[f"front_{cost}"] = [trial.number for trial in result.front(cost)]
    if result.recommendation:
        told["recommendation"]["trial"] = result.recommendation.trial.number
        told["recommendation"]["values"] = dict(result.recommendation.trial.values)
    return _without_nan(told)


def _without_nan(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {key: _without_nan(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_without_nan(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def not_complete(result: SweepResult) -> Iterator[str]:
    """One sentence for each trial that was pruned or failed."""
    for trial in result.trials:
        if trial.state != "complete":
            yield f"trial {trial.number} ({described(trial.values)}) {trial.state}: {trial.reason}"
