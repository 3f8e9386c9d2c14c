"""Metrics against values worked by hand, and properties that hold for any logits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import BadInputError
from components.evaluation import metrics

LN3 = np.log(3.0)
LOGITS = np.array([[LN3, 0.0], [0.0, LN3], [LN3, 0.0], [0.0, 0.0]])
"""Probabilities of class 0: 3/4, 1/4, 3/4, 1/2."""
LABELS = np.array([0, 1, 1, 0])


@st.composite
def batches(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Logits [N, C] and labels [N] of any sensible size."""
    rows, classes = draw(st.integers(1, 40)), draw(st.integers(2, 6))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([0.0, 0.1, 1.0, 10.0, 1000.0]))
    return scale * generator.normal(size=(rows, classes)), generator.integers(0, classes, rows)


def test_accuracy_by_hand() -> None:
    """Rows 0, 1 and 3 are right (the tie goes to the first class), row 2 is wrong."""
    assert metrics.accuracy(LOGITS, LABELS) == 0.75


def test_nll_by_hand() -> None:
    """-(ln 3/4 + ln 3/4 + ln 1/4 + ln 1/2) / 4."""
    expected = -(2 * np.log(0.75) + np.log(0.25) + np.log(0.5)) / 4
    assert metrics.negative_log_likelihood(LOGITS, LABELS) == pytest.approx(expected, abs=1e-15)


def test_ece_by_hand() -> None:
    """Bins of width 1/4: three rows at confidence 3/4 with accuracy 2/3, one at 1/2 that is right."""
    expected = 3 / 4 * abs(2 / 3 - 3 / 4) + 1 / 4 * abs(1 - 1 / 2)
    assert metrics.expected_calibration_error(LOGITS, LABELS, bins=4) == pytest.approx(expected, abs=1e-15)


def test_a_bin_holds_its_upper_edge() -> None:
    """Confidence 1/2 falls into (1/4, 1/2]; 3/4 into (1/2, 3/4], up to rounding of the logarithm."""
    bins = metrics.reliability_bins(LOGITS[3:], LABELS[3:], bins=4)
    assert bins.count.tolist() == [0, 1, 0, 0]
    assert (bins.lower[1], bins.upper[1]) == (0.25, 0.5)


def test_confusion_by_hand() -> None:
    """Rows are classes, columns are predictions."""
    confusion = metrics.confusion_matrix(LOGITS, LABELS)
    assert confusion.tolist() == [[2, 0], [1, 1]]
    assert metrics.per_class_accuracy(confusion).tolist() == [1.0, 0.5]


def test_a_class_without_rows_has_no_accuracy() -> None:
    """NaN, neither zero nor one."""
    assert np.isnan(metrics.per_class_accuracy(np.array([[1, 0], [0, 0]]))).tolist() == [False, True]


def test_huge_logits_stay_finite() -> None:
    """exp(1000) overflows; the shifted logarithm does not."""
    logits = np.array([[1000.0, -1000.0]], dtype=np.float32)
    assert metrics.negative_log_likelihood(logits, np.array([1])) == 2000.0


def test_the_stored_type_does_not_matter() -> None:
    """float16 logits give the metrics of the same values in float64."""
    half = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float16)
    labels = np.arange(50) % 4
    wide = half.astype(np.float64)
    assert metrics.negative_log_likelihood(half, labels) == metrics.negative_log_likelihood(wide, labels)


@given(batches())
def test_bounds(batch: tuple[np.ndarray, np.ndarray]) -> None:
    """Accuracy and calibration error are shares, the NLL is not negative."""
    logits, labels = batch
    assert 0 <= metrics.accuracy(logits, labels) <= 1
    assert 0 <= metrics.expected_calibration_error(logits, labels) <= 1
    assert metrics.negative_log_likelihood(logits, labels) >= 0


@given(batches(), st.integers(0, 2**32 - 1))
def test_row_order_does_not_matter(batch: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    """Up to rounding, all metrics are the same for shuffled rows."""
    logits, labels = batch
    order = np.random.default_rng(seed).permutation(len(labels))
    assert metrics.accuracy(logits[order], labels[order]) == metrics.accuracy(logits, labels)
    for metric in (metrics.negative_log_likelihood, metrics.expected_calibration_error):
        assert metric(logits[order], labels[order]) == pytest.approx(metric(logits, labels), abs=1e-12, rel=1e-12)


@given(batches(), st.integers(2, 30))
def test_bins_hold_every_row_once(batch: tuple[np.ndarray, np.ndarray], bins: int) -> None:
    """Counts add up, and the bins' mean accuracy is the accuracy."""
    logits, labels = batch
    found = metrics.reliability_bins(logits, labels, bins=bins)
    assert found.count.sum() == len(labels)
    total = float((found.count * found.accuracy).sum() / len(labels))
    assert total == pytest.approx(metrics.accuracy(logits, labels))


@given(batches())
def test_the_diagonal_is_the_accuracy(batch: tuple[np.ndarray, np.ndarray]) -> None:
    """Trace over total."""
    logits, labels = batch
    confusion = metrics.confusion_matrix(logits, labels)
    assert confusion.trace() / confusion.sum() == pytest.approx(metrics.accuracy(logits, labels))


@pytest.mark.parametrize(
    ("logits", "labels", "said"),
    [
        (np.zeros((3, 2)), np.zeros(2, int), r"\(3, 2\) and \(2,\)"),
        (np.zeros((0, 2)), np.zeros(0, int), "no labelled rows"),
        (np.zeros((2, 2)), np.array([0, 2]), r"0\.\.1.*0 to 2"),
        (np.zeros((2, 2)), np.array([0, -1]), "-1 to 0"),
    ],
)
def test_what_cannot_be_measured_is_named(logits: np.ndarray, labels: np.ndarray, said: str) -> None:
    """Shapes, emptiness and labels outside the classes are typed errors that show the values."""
    with pytest.raises(BadInputError, match=said):
        metrics.negative_log_likelihood(logits, labels)
