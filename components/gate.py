"""The pure decision whether a candidate becomes champion: a line for every bound, kept or broken."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from components.contracts import Direction
from components.errors import BadInputError
from components.params import GateParams

Outcome = Literal["promote", "refuse", "already_champion"]
ROUNDING = 1e-12
"""Two decimals such as 0.97 - 0.01 and 0.96 differ by less than this in binary."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one model when the gate decides."""

    model_digest: str
    holdout_digest: str
    """Of the labelled test samples that *metrics* were measured on."""
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Reason:
    """One bound, and whether the candidate keeps it."""

    bound: str
    kept: bool
    text: str
    """For people; a broken bound says what would have been enough."""
    value: float | None = None
    """The candidate's, where the bound has one finite value."""
    limit: float | None = None
    """What *value* was held against."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What the gate says, and why; equal decisions dump to equal text."""

    outcome: Outcome
    reasons: tuple[Reason, ...]
    metric: str

    @property
    def broken(self) -> tuple[Reason, ...]:
        return tuple(reason for reason in self.reasons if not reason.kept)

    def to_json(self) -> dict[str, Any]:
        return {"outcome": self.outcome, "metric": self.metric, "reasons": [asdict(reason) for reason in self.reasons]}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Decision:
        return cls(raw["outcome"], tuple(Reason(**reason) for reason in raw["reasons"]), raw["metric"])

    def rows(self) -> list[dict[str, str]]:
        """A table as plain data: one row a bound."""
        return [
            {
                "bound": reason.bound,
                "verdict": "kept" if reason.kept else "broken",
                "value": _number(reason.value),
                "limit": _number(reason.limit),
                "why": reason.text,
            }
            for reason in self.reasons
        ]

    def summary(self) -> str:
        """One line: the outcome, and every broken bound."""
        if self.outcome == "promote":
            return f"promoted: all {len(self.reasons)} bounds are kept"
        if self.outcome == "already_champion":
            return "the candidate is the champion already: nothing to move"
        return "refused: " + "; ".join(reason.text for reason in self.broken)


@dataclass(frozen=True, slots=True)
class _Case:
    """All that a bound may look at."""

    candidate: Evidence
    champion: Evidence | None
    gate: GateParams
    directions: Mapping[str, Direction]

    @property
    def sign(self) -> int:
        return 1 if self.directions[self.gate.metric] == "higher" else -1

    @property
    def value(self) -> float:
        return self.candidate.metrics[self.gate.metric]


Bound = Callable[[_Case], Iterator[Reason]]


def decide(
    candidate: Evidence, champion: Evidence | None, gate: GateParams, directions: Mapping[str, Direction]
) -> Decision:
    """Promote only if every bound holds; without a champion the absolute bounds alone decide.

    Raises BadInputError when the gate's metric was not measured or has no direction.
    """
    case = _Case(candidate, champion, gate, directions)
    _demand_metric(case)
    reasons = tuple(reason for bound in _BOUNDS for reason in bound(case))
    return Decision(_outcome(case, reasons), reasons, gate.metric)


def _demand_metric(case: _Case) -> None:
    for what, names in (("measured", case.candidate.metrics), ("known to the workload", case.directions)):
        if case.gate.metric not in names:
            raise BadInputError(
                f"gate.metric {case.gate.metric!r} is not {what} (there are: {', '.join(sorted(names)) or 'none'})"
            )


def _outcome(case: _Case, reasons: tuple[Reason, ...]) -> Outcome:
    if case.champion is not None and case.champion.model_digest == case.candidate.model_digest:
        return "already_champion"
    return "promote" if all(reason.kept for reason in reasons) else "refuse"


def _finite(case: _Case) -> Iterator[Reason]:
    """NaN passes every comparison written the wrong way round, so it is looked for before any."""
    metrics = case.candidate.metrics
    broken = [f"{name} is {metrics[name]}" for name in sorted(metrics) if not math.isfinite(metrics[name])]
    text = (
        f"not finite: {', '.join(broken)}; finite values are needed"
        if broken
        else f"all {len(metrics)} metrics are finite"
    )
    yield Reason("finite metrics", not broken, text)


def _floor(case: _Case) -> Iterator[Reason]:
    yield _at_least(case, "floor", case.gate.floor, "the floor")


def _not_worse_than_champion(case: _Case) -> Iterator[Reason]:
    """Non-inferiority by a fixed margin, on the same samples only."""
    if case.champion is None:
        yield Reason("champion", True, "there is no champion yet: the absolute bounds decide")
        return
    if case.champion.model_digest == case.candidate.model_digest:
        yield Reason("champion", True, "the candidate is the champion itself")
        return
    same = _same_holdout(case.candidate, case.champion)
    yield same
    if same.kept:
        yield _against_champion(case, case.champion)


def _same_holdout(candidate: Evidence, champion: Evidence) -> Reason:
    ours, theirs = candidate.holdout_digest, champion.holdout_digest
    if ours == theirs:
        return Reason("same holdout", True, f"candidate and champion were measured on the same samples ({ours[:12]})")
    text = (
        f"the candidate was measured on holdout {ours[:12]}, the champion on {theirs[:12]}: they cannot be compared; "
        "the champion's metrics on the candidate's holdout are needed"
    )
    return Reason("same holdout", False, text)


def _against_champion(case: _Case, champion: Evidence) -> Reason:
    metric, margin = case.gate.metric, case.gate.margin
    best = champion.metrics.get(metric, math.nan)
    if not math.isfinite(best):
        return Reason("champion", False, f"the champion has no finite {metric}: it must be measured again first")
    name = f"the champion's {best:.6g} {'less' if case.sign > 0 else 'plus'} the margin {margin:g}"
    return _at_least(case, "champion", best - case.sign * margin, name)


def _at_least(case: _Case, bound: str, limit: float, name: str) -> Reason:
    """A reason for 'at least as good as *limit*', in the metric's own direction."""
    metric, value = case.gate.metric, case.value
    asked = f"at {'least' if case.sign > 0 else 'most'} {limit:.6g} ({name})"
    if not math.isfinite(value):
        return Reason(bound, False, f"{metric} is {value}; {asked} would have been enough", None, limit)
    kept = case.sign * (value - limit) >= -ROUNDING
    text = f"{metric} {value:.6g} is {asked}" if kept else f"{metric} is {value:.6g}; {asked} would have been enough"
    return Reason(bound, kept, text, value, limit)


_BOUNDS: tuple[Bound, ...] = (_finite, _floor, _not_worse_than_champion)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
