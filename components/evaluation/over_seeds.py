"""Means over seeds, and paired differences of two arms that were trained with the same seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from components.errors import BadInputError


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and sample standard deviation of n values; one value has no deviation."""

    mean: float
    sd: float | None
    n: int


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Mean of paired differences, its t-interval and the two-sided p-value of no difference."""

    mean: float
    low: float
    high: float
    p_value: float
    n: int


def spread(values: Sequence[float]) -> Spread:
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Spread(mean, None, 1)
    return Spread(mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)), len(values))


def paired_difference(first: Sequence[float], second: Sequence[float], *, confidence: float = 0.95) -> PairedDifference:
    """first - second seed by seed, by Student's t (Biometrika 1908). BadInputError for fewer than two pairs."""
    from scipy import stats

    if len(first) != len(second) or len(first) < 2:
        raise BadInputError(f"a paired difference needs two or more pairs, not {len(first)} and {len(second)} values")
    found = spread([a - b for a, b in zip(first, second, strict=True)])
    error = (found.sd or 0.0) / math.sqrt(found.n)
    half = float(stats.t.ppf((1 + confidence) / 2, found.n - 1)) * error
    certain = 1.0 if found.mean == 0 else 0.0
    p_value = float(2 * stats.t.sf(abs(found.mean) / error, found.n - 1)) if error else certain
    return PairedDifference(found.mean, found.mean - half, found.mean + half, p_value, found.n)
