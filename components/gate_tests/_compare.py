"""Two models on the same rows: which test fits the metric, and the line that tells of it."""

from __future__ import annotations

from math import sqrt

import numpy as np

from components.contracts import Case, Evidence, Measure, Reason
from components.errors import BadInputError
from components.evaluation.paired import Counts, PairedTest, better_by_rows, non_inferior, rows_needed, superior


def compared(case: Case, rival: Evidence, name: str, *, margin: float | None) -> Reason:
    """The candidate against *rival*: not worse by more than *margin*, or better where that is None.

    BadInputError where both were not measured on the same rows.
    """
    test, unit = _test(case, rival, margin), _unit(case.measure)
    values = [case.candidate.metrics[case.metric], rival.metrics[case.metric]]
    what = "better than" if margin is None else f"at most {_size(margin, unit)} worse than"
    ours, theirs = (_number(value, unit) for value in values)
    text = (
        f"{case.metric} {ours} must be {what} the {name}'s {theirs} on the same {test.num_rows:,} rows; {test.method}: "
        f"p {test.p_value:.2g}, alpha {test.alpha:.2g}; {_enough(test, case.measure)}"
    )
    return Reason(name, test.passes, text, test.p_value, test.alpha)


def _test(case: Case, rival: Evidence, margin: float | None) -> PairedTest:
    ours, theirs = case.candidate.rows, rival.rows
    if case.candidate.holdout_digest != rival.holdout_digest or ours.shape != theirs.shape:
        raise BadInputError("two models that were measured on different rows cannot be compared row by row")
    if case.measure.of_rows == "share":
        counts = Counts(int((ours > theirs).sum()), int((theirs > ours).sum()), len(ours))
        return (
            superior(counts, alpha=case.alpha)
            if margin is None
            else non_inferior(counts, margin=margin, alpha=case.alpha)
        )
    advantage = theirs - ours if case.measure.better == "lower" else ours - theirs
    return better_by_rows(advantage, margin=_of_means(theirs, margin or 0.0, case.measure), alpha=case.alpha)


def _of_means(theirs: np.ndarray, margin: float, measure: Measure) -> float:
    """The margin on the mean of the rows that means *margin* on the metric, which may be the root of that mean."""
    if measure.of_rows != "root_mean":
        return margin
    root = sqrt(float(theirs.mean()))
    return (root + margin) ** 2 - root**2


def _enough(test: PairedTest, measure: Measure) -> str:
    """How sure the difference is, and what would have been enough where it is not."""
    unit = _unit(measure) if measure.of_rows != "root_mean" else ""
    low = f"at least {_signed(test.low, unit)} with {1 - test.alpha:.1%} confidence"
    bound = f"the difference is {_signed(test.difference, unit)}, {low}"
    seen = f"this holdout finds differences of {_size(test.detectable, unit)} with 80 % power"
    if test.passes:
        return f"{bound} ({seen})"
    enough = test.difference - test.low - test.margin
    needed = rows_needed(test, test.difference + test.margin)
    rows = f", or the same difference on about {needed:,} rows" if needed > test.num_rows else ""
    return f"{bound}; a difference of about {_signed(enough, unit)} would have been enough{rows} ({seen})"


def _unit(measure: Measure) -> str:
    return "%" if measure.unit == "share" else ""


def _number(value: float, unit: str) -> str:
    return f"{100 * value:.2f} %" if unit else f"{value:.4g}"


def _size(value: float, unit: str) -> str:
    return f"{100 * value:.2f} points" if unit else f"{value:.3g}"


def _signed(value: float, unit: str) -> str:
    return f"{100 * value:+.2f} points" if unit else f"{value:+.3g}"
