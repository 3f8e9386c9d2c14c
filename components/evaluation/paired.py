"""Whether one model is better than another, or not worse by more than a margin, on the same rows: one-sided tests.

Everywhere: `first` is the candidate, and a positive difference means that it is the better one.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from components.errors import BadInputError

POWER = 0.8
"""How likely a difference is found that is called detectable."""


@dataclass(frozen=True, slots=True)
class PairedTest:
    """One one-sided test of `difference > -margin`."""

    method: str
    difference: float
    low: float
    """Lower confidence bound of the difference at 1 - alpha."""
    p_value: float
    alpha: float
    margin: float
    num_rows: int
    detectable: float
    """The smallest difference beyond -margin that is found with a power of 80 %, for rows that vary as these do."""

    @property
    def passes(self) -> bool:
        return self.p_value <= self.alpha


@dataclass(frozen=True, slots=True)
class Counts:
    """Of N rows that two classifiers were asked about."""

    first_only: int
    """Rows on which the first alone is right."""
    second_only: int
    num_rows: int

    def __post_init__(self) -> None:
        if min(self.first_only, self.second_only) < 0 or not 0 < self.num_rows >= self.first_only + self.second_only:
            raise BadInputError(
                f"{self.first_only} and {self.second_only} rows on which one alone is right do not fit {self.num_rows} rows"
            )

    @property
    def difference(self) -> float:
        return (self.first_only - self.second_only) / self.num_rows


def superior(counts: Counts, *, alpha: float) -> PairedTest:
    """Whether the first is right more often: McNemar's test (Psychometrika 1947), one-sided and exact.

    Under equality each row on which one alone is right falls to either side by a fair coin, so it never
    errs more often than *alpha*, on however few rows.
    """
    from scipy.stats import binom

    discordant = counts.first_only + counts.second_only
    p_value = float(binom.sf(counts.first_only - 1, discordant, 0.5)) if discordant else 1.0
    return _of_counts(counts, "exact McNemar", p_value, alpha=alpha, margin=0.0)


def non_inferior(counts: Counts, *, margin: float, alpha: float) -> PairedTest:
    """Whether the first is right at most *margin* (a share of the rows) less often than the second.

    The score test for paired proportions of Tango, "Equivalence test and confidence interval for the difference
    in proportions for the paired-sample design" (Statistics in Medicine 1998), which keeps its level where the
    textbook interval does not. BadInputError unless 0 < margin < 1.
    """
    if not 0 < margin < 1:
        raise BadInputError(f"a margin of non-inferiority lies between 0 and 1, not at {margin:g}")
    p_value = NormalDist().cdf(-_score(counts, -margin))
    return _of_counts(counts, "Tango's score test", p_value, alpha=alpha, margin=margin)


def better_by_rows(
    advantage: NDArray[np.floating], *, margin: float = 0.0, alpha: float, resamples: int = 10_000, seed: int = 0
) -> PairedTest:
    """Whether the mean of *advantage* [N], the second's loss less the first's, is above -margin.

    A permutation test by random signs of (advantage + margin), with the studentised mean as its statistic: exact for
    rows that are symmetric about their mean, and right in the long run for any (Romano, "On the behavior of
    randomization tests without a group invariance assumption", JASA 1990). The generator is counter-based (Philox):
    the seed alone fixes the p-value. BadInputError for fewer than two rows, or values that are not finite.
    """
    rows = np.asarray(advantage, dtype=np.float64)
    if rows.ndim != 1 or len(rows) < 2 or not np.isfinite(rows).all():
        raise BadInputError(f"a paired test needs two or more finite rows [N], not {rows.shape}")
    reached = _as_large_by_signs(rows + margin, resamples, np.random.Generator(np.random.Philox(key=seed)))
    deviation = float(rows.std(ddof=1))
    bound = t_quantile(1 - alpha, len(rows) - 1) * deviation / sqrt(len(rows))
    return PairedTest(
        method="permutation test by random signs",
        difference=float(rows.mean()),
        low=float(rows.mean()) - bound,
        p_value=(1 + reached) / (1 + resamples),
        alpha=alpha,
        margin=margin,
        num_rows=len(rows),
        detectable=_quantiles(alpha) * deviation / sqrt(len(rows)),
    )


def rows_needed(test: PairedTest, difference: float) -> int:
    """How many rows would find *difference* beyond -margin with a power of 80 %, for rows that vary as those of *test*."""
    return max(1, round(test.num_rows * (test.detectable / difference) ** 2)) if difference > 0 else 0


def _of_counts(counts: Counts, method: str, p_value: float, *, alpha: float, margin: float) -> PairedTest:
    discordant = max(1, counts.first_only + counts.second_only) / counts.num_rows
    return PairedTest(
        method=method,
        difference=counts.difference,
        low=_low(counts, alpha=alpha),
        p_value=p_value,
        alpha=alpha,
        margin=margin,
        num_rows=counts.num_rows,
        detectable=_quantiles(alpha) * sqrt(discordant / counts.num_rows),
    )


def _score(counts: Counts, difference: float) -> float:
    """Tango's statistic of the hypothesis that the true difference is *difference*; it falls as that rises."""
    n, b, c = counts.num_rows, counts.first_only, counts.second_only
    share = _second_only_share(counts, difference)
    variance = n * (2 * share + difference * (1 - difference))
    distance = b - c - n * difference
    if variance <= 0:
        return 0.0 if distance == 0 else float("inf") if distance > 0 else float("-inf")
    return distance / sqrt(variance)


def _second_only_share(counts: Counts, difference: float) -> float:
    """The likeliest share of rows on which the second alone is right, where the true difference is *difference*."""
    n, b, c = counts.num_rows, counts.first_only, counts.second_only
    linear = -b - c + (2 * n - b + c) * difference
    constant = -c * difference * (1 - difference)
    root = sqrt(max(0.0, linear * linear - 8 * n * constant))
    return max(0.0, -difference, (root - linear) / (4 * n))


def _low(counts: Counts, *, alpha: float) -> float:
    """The smallest difference that Tango's score test does not reject."""
    from scipy.optimize import brentq

    wanted = NormalDist().inv_cdf(1 - alpha)
    nearly_one = 1 - 1e-12
    if _score(counts, -nearly_one) <= wanted:
        return -1.0
    return float(brentq(lambda at: _score(counts, at) - wanted, -nearly_one, counts.difference, xtol=1e-12))


def _as_large_by_signs(rows: NDArray[np.float64], resamples: int, generator: np.random.Generator) -> int:
    """How many of so many random choices of signs give [N] a studentised mean as large as it has.

    Signs leave the sum of squares alone, so that the studentised mean is as large exactly where the sum is.
    """
    total, size = rows.sum(), max(1, 4_000_000 // len(rows))
    almost = total - 1e-12 * np.abs(rows).sum()  # sums of the same numbers in another order differ in the last bits
    reached = 0
    for done in range(0, resamples, size):
        positive = generator.integers(0, 2, size=(min(size, resamples - done), len(rows)), dtype=np.int8)
        reached += int((2 * (positive.astype(np.float64) @ rows) - total >= almost).sum())
    return reached


def _quantiles(alpha: float) -> float:
    """Standard errors between no difference and one that is found with a power of 80 %."""
    return NormalDist().inv_cdf(1 - alpha) + NormalDist().inv_cdf(POWER)


def t_quantile(share: float, degrees: int) -> float:
    """Of Student's t with so many degrees of freedom."""
    from scipy.stats import t

    return float(t.ppf(share, degrees))
