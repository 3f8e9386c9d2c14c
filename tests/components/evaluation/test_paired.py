"""Facts about the tests that decide whether one model may replace another."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from components.errors import BadInputError
from components.evaluation.paired import (
    Counts,
    _score,
    _second_only_share,
    better_by_rows,
    non_inferior,
    rows_needed,
    superior,
)


@st.composite
def counts(draw: st.DrawFn) -> Counts:
    first, second, rest = (draw(st.integers(0, 60)) for _ in range(3))
    return Counts(first, second, first + second + rest + 1)


def test_superiority_is_the_binomial_tail_by_hand() -> None:
    """Of 5 rows on which one alone is right, all 5 are the first's by chance once in 32 times."""
    assert superior(Counts(5, 0, 100), alpha=0.05).p_value == pytest.approx(1 / 32)
    assert superior(Counts(5, 0, 100), alpha=0.05).passes
    assert not superior(Counts(4, 0, 100), alpha=0.05).passes
    assert superior(Counts(0, 0, 100), alpha=0.05).p_value == 1


@given(counts())
def test_superiority_is_half_of_the_two_sided_test(found: Counts) -> None:
    """scipy's binomial test agrees, whatever the counts."""
    discordant = found.first_only + found.second_only
    expected = stats.binomtest(found.first_only, discordant, alternative="greater").pvalue if discordant else 1.0

    assert superior(found, alpha=0.05).p_value == pytest.approx(expected, rel=1e-9)


@given(counts(), st.floats(-0.9, 0.9))
def test_nuisance_share_is_the_likeliest_one(found: Counts, difference: float) -> None:
    """The closed form is where the likelihood of the three counts is largest under the hypothesis."""
    n, b, c = found.num_rows, found.first_only, found.second_only

    def surprise(share: float) -> float:
        cells = ((b, share + difference), (c, share), (n - b - c, 1 - 2 * share - difference))
        return -sum(count * math.log(max(p, 1e-300)) for count, p in cells if count)

    low, high = max(0.0, -difference), (1 - difference) / 2
    best = optimize.minimize_scalar(surprise, bounds=(low, high), method="bounded", options={"xatol": 1e-10})

    assert surprise(_second_only_share(found, difference)) <= best.fun + 1e-6 * (1 + abs(best.fun))


def test_an_example_of_the_literature() -> None:
    """Airway reactivity of 21 children, 1 and 7 discordant: -.517 to -.026 (Fagerland et al. 2014, table V)."""
    low = non_inferior(Counts(1, 7, 21), margin=0.1, alpha=0.025).low
    high = -non_inferior(Counts(7, 1, 21), margin=0.1, alpha=0.025).low

    assert (low, high) == (pytest.approx(-0.517, abs=5e-4), pytest.approx(-0.026, abs=5e-4))


@given(counts())
def test_bound_is_a_root_of_the_quartic(found: Counts) -> None:
    """Yang, Sun and Hardin (Statistics in Medicine 2013) solve the same equation without iterating."""
    n, total, gap = found.num_rows, found.first_only + found.second_only, found.first_only - found.second_only
    g = stats.norm.ppf(0.95) ** 2
    quartic = [
        n**2 * (n / g + 1) ** 2,
        -n * gap * (n / g + 1) * (4 * n / g + 1),
        2 * n * gap**2 * (3 * n / g + 2) / g - n**2 * (total / g + 1),
        n * gap * (2 * total / g + 1) - gap**3 * (4 * n / g + 1) / g,
        gap**2 * (gap**2 / g - total) / g,
    ]
    low = non_inferior(found, margin=0.1, alpha=0.05).low

    assert min(abs(root - low) for root in np.roots(quartic)) < 1e-5


@given(counts(), st.floats(0.001, 0.5), st.sampled_from([0.01, 0.05, 0.1]))
def test_bound_and_test_agree(found: Counts, margin: float, alpha: float) -> None:
    """Non-inferior exactly where the lower confidence bound lies above -margin."""
    test = non_inferior(found, margin=margin, alpha=alpha)
    if abs(test.p_value - alpha) > 1e-6:
        assert test.passes == (test.low > -margin)
    assert test.low <= found.difference + 1e-9


@given(counts())
def test_score_falls_as_the_hypothesis_rises(found: Counts) -> None:
    """So that its inversion is an interval."""
    scores = [_score(found, at) for at in np.linspace(-0.95, 0.95, 39)]

    assert all(a >= b - 1e-9 for a, b in itertools.pairwise(scores))


def test_more_rows_find_smaller_differences() -> None:
    """The detectable difference shrinks with the root of the rows, and says how many would be enough."""
    few, many = (non_inferior(Counts(30 * k, 30 * k, 1000 * k), margin=0.01, alpha=0.05) for k in (1, 4))

    assert few.detectable == pytest.approx(2 * many.detectable)
    assert rows_needed(few, few.detectable / 2) == 4000
    assert rows_needed(few, -0.01) == 0


@given(seed=st.integers(0, 1000), shift=st.floats(-0.5, 0.5))
def test_permutation_is_near_students_t(seed: int, shift: float) -> None:
    """On rows of a bell curve both tests say nearly the same."""
    rows = np.random.default_rng(seed).normal(shift, 1, 60)
    found = better_by_rows(rows, alpha=0.05, resamples=4000, seed=seed).p_value
    expected = stats.ttest_1samp(rows, 0, alternative="greater").pvalue

    assert found == pytest.approx(expected, abs=5 * math.sqrt(0.25 / 4000) + 0.02)


def test_permutation_with_a_margin() -> None:
    """Rows that are worse by less than the margin pass, by more do not; the same seed gives the same p-value."""
    rows = np.random.default_rng(0).normal(-0.1, 1, 4000)

    assert better_by_rows(rows, margin=0.2, alpha=0.05).passes
    assert not better_by_rows(rows, margin=0.05, alpha=0.05).passes
    assert better_by_rows(rows, alpha=0.05, seed=3) == better_by_rows(rows, alpha=0.05, seed=3)


def test_equal_models_are_never_superior() -> None:
    """Losses that are the same row by row."""
    assert better_by_rows(np.zeros(50), alpha=0.05).p_value == 1
    assert better_by_rows(np.zeros(50), margin=0.1, alpha=0.05).passes


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Counts(-1, 2, 10),
        lambda: Counts(8, 3, 10),
        lambda: Counts(0, 0, 0),
        lambda: non_inferior(Counts(1, 1, 10), margin=0, alpha=0.05),
        lambda: non_inferior(Counts(1, 1, 10), margin=1, alpha=0.05),
        lambda: better_by_rows(np.zeros(1), alpha=0.05),
        lambda: better_by_rows(np.array([1.0, np.nan]), alpha=0.05),
    ],
)
def test_what_cannot_be_tested_is_an_error(bad) -> None:
    """Never a number that looks like an answer."""
    with pytest.raises(BadInputError):
        bad()
