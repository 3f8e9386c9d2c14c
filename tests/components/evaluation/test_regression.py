"""Metrics of predicted numbers, by hand and against scikit-learn."""

import numpy as np
import pytest

from components.errors import BadInputError
from components.evaluation import regression

OUTPUTS = np.array([[1.0], [2.0], [6.0]], dtype=np.float32)
LABELS = np.array([[1.0], [4.0], [4.0]], dtype=np.float32)


def test_by_hand() -> None:
    """Errors 0, -2, 2: squares 0, 4, 4, of deviations -2, 1, 1 from the mean 3."""
    assert regression.squared_errors(OUTPUTS, LABELS).tolist() == [0, 4, 4]
    assert regression.absolute_errors(OUTPUTS, LABELS).tolist() == [0, 2, 2]
    assert regression.root_mean_squared_error(OUTPUTS, LABELS) == pytest.approx((8 / 3) ** 0.5)
    assert regression.mean_absolute_error(OUTPUTS, LABELS) == pytest.approx(4 / 3)
    assert regression.r_squared(OUTPUTS, LABELS) == pytest.approx(1 - 8 / 6)


def test_several_targets_agree_with_scikit_learn() -> None:
    """The mean over targets, each weighing the same; one of them never varies."""
    from sklearn import metrics

    draw = np.random.default_rng(0)
    labels = draw.normal(size=(50, 3)).astype(np.float32) * (1, 100, 0)
    outputs = labels + draw.normal(size=(50, 3))

    assert regression.r_squared(outputs, labels) == pytest.approx(metrics.r2_score(labels, outputs))
    assert regression.mean_absolute_error(outputs, labels) == pytest.approx(
        metrics.mean_absolute_error(labels, outputs)
    )
    squared = metrics.mean_squared_error(labels, outputs)
    assert regression.root_mean_squared_error(outputs, labels) == pytest.approx(squared**0.5)


def test_labels_that_never_vary_are_met_or_not() -> None:
    """1 where exactly, else 0, as there is nothing to explain."""
    same = np.full((4, 1), 2.0)
    assert (regression.r_squared(same, same), regression.r_squared(same + 1, same)) == (1.0, 0.0)


def test_rows_that_do_not_fit_are_refused() -> None:
    """Other shapes, and none at all."""
    with pytest.raises(BadInputError, match=r"\(3, 1\) and \(2, 1\)"):
        regression.squared_errors(OUTPUTS, LABELS[:2])
    with pytest.raises(BadInputError, match="no labelled rows"):
        regression.squared_errors(OUTPUTS[:0], LABELS[:0])
