"""The statistics of a few seeds."""

import pytest

from components.errors import BadInputError
from components.evaluation.over_seeds import paired_difference, spread


def test_spread_is_that_of_a_sample():
    """1, 2, 3 deviate by 1; a single value by nothing known."""
    assert (spread([1, 2, 3]).mean, spread([1, 2, 3]).sd) == (2, 1)
    assert spread([4]).sd is None


def test_paired_difference_by_hand():
    """Differences 1, 2, 3: t = 2 * sqrt(3), t(0.975, 2) = 4.30265, p = 1 - t / sqrt(t * t + 2)."""
    found = paired_difference([2, 4, 6], [1, 2, 3])

    assert found.mean == 2
    assert found.low == pytest.approx(2 - 4.30265 / 3**0.5, abs=1e-5)
    assert found.high == pytest.approx(2 + 4.30265 / 3**0.5, abs=1e-5)
    assert found.p_value == pytest.approx(1 - (12 / 14) ** 0.5)


def test_equal_arms_do_not_differ():
    """No spread and no difference is p = 1, not a division by zero."""
    assert paired_difference([1, 2], [1, 2]).p_value == 1


def test_one_pair_is_refused():
    """It has no spread."""
    with pytest.raises(BadInputError, match="two or more pairs"):
        paired_difference([1], [1])
