"""What the mean over some rows says of the mean over all: chance is allowed for, wrong rows are not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.soft_targets.verdict import largest_mean_kl, standard_error

MAX_KL = 1e-4
NUM_ROWS = 256
NUM_DRAWS = 2000


def share_refused(mean_kl: float, spread: float) -> float:
    """Of many draws of rows whose KLs are log-normal about *mean_kl*, with *spread* the deviation of their logarithms."""
    draws = np.random.default_rng(0).lognormal(-(spread**2) / 2, spread, (NUM_DRAWS, NUM_ROWS)) * mean_kl
    return float(np.mean([kl.mean() > largest_mean_kl(kl.tolist(), MAX_KL) for kl in draws]))


def test_the_standard_error_is_that_of_the_mean() -> None:
    """s / sqrt(n), missing values left out; nothing is known of fewer than two."""
    assert standard_error([1.0, 2.0, None, 3.0, 4.0]) == pytest.approx(math.sqrt(5 / 3) / 2)
    assert standard_error([1.0]) == standard_error([]) == 0.0


@pytest.mark.parametrize("spread", [0.1, 1.0])
def test_targets_just_within_the_bound_pass_whatever_rows_are_drawn(spread: float) -> None:
    """Half of the draws of such a set have a mean above the bound."""
    assert share_refused(MAX_KL, spread) < 0.003


@pytest.mark.parametrize(("times", "spread"), [(1.1, 0.1), (1.7, 1.0), (5.0, 2.0)])
def test_targets_beyond_the_bound_are_refused(times: float, spread: float) -> None:
    assert share_refused(times * MAX_KL, spread) > 0.95


@given(st.integers(1, NUM_ROWS), st.floats(0.06, 10.0))
def test_wrong_rows_do_not_hide_behind_their_own_spread(num_wrong: int, kl: float) -> None:
    """One row about which the teacher says something else is enough."""
    rows = [kl] * num_wrong + [0.0] * (NUM_ROWS - num_wrong)

    assert sum(rows) / NUM_ROWS > largest_mean_kl(rows, MAX_KL)
