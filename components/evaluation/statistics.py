"""How sure a number is: intervals and tests that need nothing but counts, or one seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from components.errors import BadInputError


@dataclass(frozen=True, slots=True)
class Interval:
    """From low to high, both included."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def wilson_interval(successes: int, trials: int, *, confidence: float = 0.95) -> Interval:
    """Interval of a proportion that keeps its level near 0 and 1, where the textbook one collapses.

    The score interval of Wilson, "Probable inference, the law of succession, and statistical inference"
    (JASA 1927); Brown, Cai and DasGupta (Statistical Science 2001) recommend it. Raises BadInputError
    unless 0 <= successes <= trials and trials > 0.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise BadInputError(f"a proportion needs 0 <= successes <= trials and trials > 0, not {successes} of {trials}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    # At 0 and 1 the bound is exact; rounding must not push it past the proportion itself.
    return Interval(min(max(centre - half, 0.0), share), max(min(centre + half, 1.0), share))


def bootstrap_interval(
    scores: NDArray[np.floating], *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0, root: bool = False
) -> Interval:
    """Percentile interval of mean(scores), or with *root* of its square root; [N].

    Efron and Tibshirani, "An introduction to the bootstrap" (1993), ch. 13. The generator is counter-based (Philox):
    the seed alone fixes the interval.
    """
    values = _rows_of(scores)
    means = [_statistic(values[rows], root) for rows in _resampled(len(values), resamples, seed)]
    return _percentiles(means, confidence)


def paired_bootstrap_interval(
    first: NDArray[np.floating],
    second: NDArray[np.floating],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    root: bool = False,
) -> Interval:
    """As `bootstrap_interval`, of mean(first) - mean(second), where both were measured on the same N rows; [N], [N].

    Resampling rows keeps the pairing, so what is hard for both arms cancels; Koehn (EMNLP 2004) for paired system
    comparison. With *root*, of the difference of the roots of both means.
    """
    first, second = _rows_of(first), _rows_of(second)
    if len(first) != len(second):
        raise BadInputError(f"a paired difference needs two arrays of one length, not {len(first)} and {len(second)}")
    if not root:
        return bootstrap_interval(first - second, confidence=confidence, resamples=resamples, seed=seed)
    differences = [
        _statistic(first[rows], root) - _statistic(second[rows], root)
        for rows in _resampled(len(first), resamples, seed)
    ]
    return _percentiles(differences, confidence)


def _rows_of(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise BadInputError(f"a bootstrap needs scores [N] with N > 0, not {values.shape}")
    return values


def _resampled(num_rows: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    generator = np.random.Generator(np.random.Philox(key=seed))
    return (generator.integers(0, num_rows, size=num_rows) for _ in range(resamples))


def _statistic(values: NDArray[np.float64], root: bool) -> float:
    mean = float(values.mean())
    return sqrt(mean) if root else mean


def _percentiles(values: Sequence[float], confidence: float) -> Interval:
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def mcnemar_p_value(first_only: int, second_only: int) -> float:
    """Exact two-sided p-value that two classifiers err equally often, from the rows on which one alone is right.

    McNemar (Psychometrika 1947) in its exact binomial form, which Dietterich, "Approximate statistical tests for
    comparing supervised classification learning algorithms" (Neural Computation 1998), recommends for two
    models and one test set. Whole numbers throughout, so it is right for any counts.
    """
    if min(first_only, second_only) < 0:
        raise BadInputError(f"counts cannot be negative: {first_only}, {second_only}")
    discordant, fewer = first_only + second_only, min(first_only, second_only)
    term, tail = 1, 1
    for k in range(fewer):
        term = term * (discordant - k) // (k + 1)
        tail += term
    return min(1.0, float(2 * tail / 2**discordant))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p-values of a family of tests, in their order: below a level, the level holds for all of them together.

    Holm, "A simple sequentially rejective multiple test procedure" (Scandinavian Journal of Statistics 1979).
    """
    ascending = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(ascending):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return tuple(adjusted)
