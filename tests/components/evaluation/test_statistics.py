"""Intervals and tests against published or hand-worked values, and properties."""

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import BadInputError
from components.evaluation import statistics


def test_wilson_by_hand() -> None:
    """8 of 10 at 95 %: 0.4902 to 0.9433."""
    z = 1.959963984540054
    centre = (0.8 + z**2 / 20) / (1 + z**2 / 10)
    half = z * (0.8 * 0.2 / 10 + z**2 / 400) ** 0.5 / (1 + z**2 / 10)
    found = statistics.wilson_interval(8, 10)
    assert (found.low, found.high) == pytest.approx((centre - half, centre + half))
    assert (found.low, found.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_wilson_does_not_collapse_at_one() -> None:
    """100 of 100 still leaves room below: 1 / (1 + z²/100)."""
    found = statistics.wilson_interval(100, 100)
    assert found.high == 1.0
    assert found.low == pytest.approx(1 / (1 + 1.959963984540054**2 / 100))


@given(st.integers(1, 10_000), st.floats(0, 1), st.floats(0.5, 0.999, exclude_min=True))
def test_wilson_contains_the_share(trials: int, share: float, confidence: float) -> None:
    """And stays within 0..1."""
    successes = round(share * trials)
    found = statistics.wilson_interval(successes, trials, confidence=confidence)
    assert 0 <= found.low <= successes / trials <= found.high <= 1


@given(st.integers(1, 500), st.floats(0, 1))
def test_wilson_is_symmetric_and_grows_with_confidence(trials: int, share: float) -> None:
    """Failures have the mirrored interval; more confidence is a wider one."""
    successes = round(share * trials)
    found = statistics.wilson_interval(successes, trials)
    mirrored = statistics.wilson_interval(trials - successes, trials)
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((found.low, found.high), abs=1e-12)
    wider = statistics.wilson_interval(successes, trials, confidence=0.99)
    assert wider.low <= found.low <= found.high <= wider.high


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (3, 2), (-1, 5)])
def test_wilson_refuses_what_is_no_proportion(successes: int, trials: int) -> None:
    """No trials, more successes than trials, fewer than none."""
    with pytest.raises(BadInputError, match=f"{successes} of {trials}"):
        statistics.wilson_interval(successes, trials)


def test_mcnemar_by_hand() -> None:
    """1 against 6: 2 · (C(7,0) + C(7,1)) / 2^7 = 0.125."""
    assert statistics.mcnemar_p_value(1, 6) == 0.125
    assert statistics.mcnemar_p_value(6, 1) == 0.125


def test_mcnemar_without_difference_is_one() -> None:
    """No discordant rows, and as many on each side."""
    assert statistics.mcnemar_p_value(0, 0) == 1.0
    assert statistics.mcnemar_p_value(5, 5) == 1.0


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_binomial_tail(first: int, second: int) -> None:
    """Twice the smaller tail of a fair coin, at most 1."""
    discordant = first + second
    tail = sum(comb(discordant, k) for k in range(min(first, second) + 1))
    assert statistics.mcnemar_p_value(first, second) == pytest.approx(min(1.0, 2 * tail / 2**discordant))


def test_mcnemar_takes_large_counts() -> None:
    """Thousands of discordant rows neither overflow nor underflow into an error."""
    assert statistics.mcnemar_p_value(0, 5000) == 0.0
    assert 0 < statistics.mcnemar_p_value(2400, 2600) < 0.01


def test_bootstrap_is_reproducible() -> None:
    """The seed alone fixes it, and another seed is another interval."""
    draw = np.random.default_rng(0)
    first, second = draw.normal(size=80), draw.normal(size=80)
    again = [statistics.paired_bootstrap_interval(first, second, seed=3, resamples=300) for _ in range(2)]
    assert again[0] == again[1]
    assert statistics.paired_bootstrap_interval(first, second, seed=4, resamples=300) != again[0]


def test_bootstrap_is_paired() -> None:
    """Rows that vary a lot but differ by exactly 1 have an interval of no width."""
    first = np.random.default_rng(0).normal(scale=100, size=50)
    found = statistics.paired_bootstrap_interval(first + 1, first, resamples=200)
    assert (found.low, found.high) == pytest.approx((1.0, 1.0))


def test_bootstrap_agrees_with_theory() -> None:
    """For a mean of many rows: estimate ± 1.96 standard errors, within 10 % of the width."""
    draw = np.random.default_rng(1)
    first, second = draw.normal(0.3, 1, 2000), draw.normal(0, 1, 2000)
    difference = first - second
    half = 1.96 * difference.std() / 2000**0.5
    found = statistics.paired_bootstrap_interval(first, second, resamples=2000)
    assert (found.low, found.high) == pytest.approx(
        (difference.mean() - half, difference.mean() + half), abs=0.1 * half
    )


def test_bootstrap_of_roots_pairs_the_rows_too() -> None:
    """Errors twice as large everywhere: the difference of the RMSEs varies as one of them does, not more."""
    squares = np.random.default_rng(0).normal(size=200) ** 2
    own = statistics.bootstrap_interval(squares, root=True, resamples=500)
    found = statistics.paired_bootstrap_interval(4 * squares, squares, root=True, resamples=500)
    assert (found.low, found.high) == pytest.approx((own.low, own.high))
    assert squares.mean() ** 0.5 in own


def test_bootstrap_needs_rows() -> None:
    """Nothing was measured: nothing can be said."""
    with pytest.raises(BadInputError, match="N > 0"):
        statistics.paired_bootstrap_interval(np.zeros(0), np.zeros(0))


def test_holm_by_hand() -> None:
    """0.01, 0.04, 0.03 of three: 3 * 0.01, then 2 * 0.03, then no less than that."""
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert statistics.holm([0.6, 0.9]) == (1.0, 1.0)
    assert statistics.holm([]) == ()


@given(p_values=st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_keeps_the_order_and_lies_between_none_and_bonferroni(p_values: list[float]) -> None:
    """Never below the p-value itself, never above the number of tests times it."""
    adjusted = statistics.holm(p_values)

    assert all(p <= a <= min(1, len(p_values) * p) + 1e-12 for p, a in zip(p_values, adjusted, strict=True))
    ranked = sorted(zip(p_values, adjusted, strict=True))
    assert [a for _, a in ranked] == sorted(adjusted)
