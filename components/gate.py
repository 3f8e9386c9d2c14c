"""The pure decision whether a candidate becomes champion: a line for every bound, kept or broken."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from components.contracts import Case, Evidence, Reason, Workload
from components.errors import BadInputError
from components.gate_tests._compare import compared
from components.params import GateParams

Outcome = Literal["promote", "refuse", "already_champion"]
ROUNDING = 1e-12
"""Two decimals such as 0.97 - 0.01 and 0.96 differ by less than this in binary."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What the gate says, and why; equal decisions dump to equal text."""

    outcome: Outcome
    reasons: tuple[Reason, ...]
    metric: str

    def with_reason(self, reason: Reason) -> Decision:
        """The same with one line more, which can only refuse what was promoted."""
        outcome: Outcome = "refuse" if self.outcome == "promote" and not reason.kept else self.outcome
        return Decision(outcome, (*self.reasons, reason), self.metric)

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


def decide(
    candidate: Evidence,
    champion: Evidence | None,
    teacher: Evidence | None,
    gate: GateParams,
    workload: Workload,
    *,
    look: int = 1,
    passed: Sequence[Reason] = (),
) -> Decision:
    """Promote only if every bound holds, so that no correction among them is due (an intersection-union test).

    *look* says as the how-manieth candidate this holdout judges it: each spends a share of gate.alpha. Without a champion
    the absolute bounds alone decide. *passed* are lines about what came before: data, soft targets, records. Raises
    BadInputError when the gate's metric was not measured, or cannot be tested row by row.
    """
    case = _case(candidate, champion, teacher, gate, workload)
    further = (reason for test in gate.tests for reason in test.judge(case))
    reasons = (*passed, *_basic(case, gate, look), *further)
    return Decision(_outcome(case, reasons), reasons, gate.metric)


def _case(
    candidate: Evidence, champion: Evidence | None, teacher: Evidence | None, gate: GateParams, workload: Workload
) -> Case:
    measure = workload.measures.get(gate.metric)
    if measure is None or gate.metric not in candidate.metrics:
        raise BadInputError(
            f"gate.metric {gate.metric!r} was not measured (there are: {', '.join(sorted(candidate.metrics)) or 'none'})"
        )
    if measure.of_rows is None:
        testable = [name for name, each in workload.measures.items() if each.of_rows]
        raise BadInputError(
            f"gate.metric {gate.metric!r} has no value for a single row, so two models cannot be tested on it: take one of "
            f"{', '.join(testable)}, and bound {gate.metric} by gate.tests (name: bound)"
        )
    better = {name: each.better for name, each in (*workload.measures.items(), *workload.fidelity_measures.items())}
    alpha = gate.alpha / gate.candidates_per_holdout
    return Case(candidate, champion, teacher, gate.metric, measure, better, alpha)


def _outcome(case: Case, reasons: tuple[Reason, ...]) -> Outcome:
    if case.champion is not None and case.champion.model_digest == case.candidate.model_digest:
        return "already_champion"
    return "promote" if all(reason.kept for reason in reasons) else "refuse"


def _basic(case: Case, gate: GateParams, look: int) -> Iterator[Reason]:
    yield _finite(case)
    yield _floor(case, gate)
    yield _large_enough(case, gate)
    if case.champion is None:
        yield Reason("champion", True, "there is no champion yet: the absolute bounds decide")
    elif case.champion.model_digest == case.candidate.model_digest:
        yield Reason("champion", True, "the candidate is the champion itself")
    else:
        yield from _against(case, case.champion, gate, look)


def _finite(case: Case) -> Reason:
    """NaN passes every comparison written the wrong way round, so it is looked for before any."""
    metrics = case.candidate.metrics
    broken = [f"{name} is {metrics[name]}" for name in sorted(metrics) if not math.isfinite(metrics[name])]
    text = (
        f"not finite: {', '.join(broken)}; finite values are needed"
        if broken
        else f"all {len(metrics)} metrics are finite"
    )
    return Reason("finite metrics", not broken, text)


def _floor(case: Case, gate: GateParams) -> Reason:
    """In the metric's own direction."""
    value, limit, higher = case.candidate.metrics[case.metric], gate.floor, case.measure.better == "higher"
    asked = f"at {'least' if higher else 'most'} {limit:.6g} (the floor)"
    if not math.isfinite(value):
        return Reason("floor", False, f"{case.metric} is {value}; {asked} would have been enough", None, limit)
    kept = (value - limit if higher else limit - value) >= -ROUNDING
    text = (
        f"{case.metric} {value:.6g} is {asked}"
        if kept
        else f"{case.metric} is {value:.6g}; {asked} would have been enough"
    )
    return Reason("floor", kept, text, value, limit)


def _large_enough(case: Case, gate: GateParams) -> Reason:
    found, wanted = len(case.candidate.rows), gate.min_rows
    text = f"the holdout has {found:,} labelled rows; at least {wanted:,} are asked for"
    return Reason("holdout size", found >= wanted, text, found, wanted)


def _against(case: Case, champion: Evidence, gate: GateParams, look: int) -> Iterator[Reason]:
    same = _same_holdout(case.candidate, champion)
    yield same
    if not same.kept:
        return
    yield _fresh(gate, look)
    if not math.isfinite(champion.metrics.get(case.metric, math.nan)) or not math.isfinite(
        case.candidate.metrics[case.metric]
    ):
        yield Reason(
            "champion", False, f"without a finite {case.metric} of both there is no comparison: measure both again"
        )
        return
    yield compared(
        case, champion, "champion", margin=gate.margin if gate.against_champion == "non_inferiority" else None
    )


def _fresh(gate: GateParams, look: int) -> Reason:
    """Whether the holdout has alpha left to spend."""
    allowed = gate.candidates_per_holdout
    kept = look <= allowed
    text = f"candidate {look} of {allowed} that this holdout may judge, each with alpha {gate.alpha / allowed:.2g}" + (
        "" if kept else ": a fresh holdout is due (a new data version, or another data.split.salt)"
    )
    return Reason("fresh holdout", kept, text, look, allowed)


def _same_holdout(candidate: Evidence, champion: Evidence) -> Reason:
    ours, theirs = candidate.holdout_digest, champion.holdout_digest
    if ours == theirs:
        return Reason("same holdout", True, f"candidate and champion were measured on the same samples ({ours[:12]})")
    text = (
        f"the candidate was measured on holdout {ours[:12]}, the champion on {theirs[:12]}: they cannot be compared; "
        "the champion's metrics on the candidate's holdout are needed"
    )
    return Reason("same holdout", False, text)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
