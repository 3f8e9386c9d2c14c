"""How soft the teacher is."""

import numpy as np
import pytest

from components.sweeps.diagnostics import ONE_HOT_SHARE, UNIFORM_SHARE, entropy_share

LOGITS = np.array([[9.0, 0.0, 0.0, 0.0], [0.0, 0.0, 8.0, 1.0]], dtype=np.float32)


def test_equal_logits_are_uniform_and_a_lone_large_one_is_one_hot():
    """1 and 0, whatever the number of classes."""
    assert entropy_share(np.zeros((3, 7), np.float32), 1.0) == pytest.approx(1.0)
    assert entropy_share(np.eye(5, dtype=np.float32) * 100, 1.0) == pytest.approx(0.0, abs=1e-6)


def test_two_equal_classes_of_four_are_half():
    """log 2 / log 4."""
    logits = np.array([[50.0, 50.0, 0.0, 0.0]], dtype=np.float32)
    assert entropy_share(logits, 1.0) == pytest.approx(0.5)


def test_it_rises_with_the_temperature_from_too_sharp_to_too_flat():
    """Through both bounds."""
    shares = [entropy_share(LOGITS, temperature) for temperature in (1, 2, 4, 8, 100)]

    assert shares == sorted(shares)
    assert shares[0] < ONE_HOT_SHARE
    assert shares[-1] > UNIFORM_SHARE
