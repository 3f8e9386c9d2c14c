"""The name of a holdout: the same for the same labelled samples, another for any other."""

import numpy as np
import pytest

from components.contracts import DataSpec
from components.data.packed import PackedData
from components.errors import SplitError
from components.evaluation.holdout import holdout_digest, holdout_of

IDS = np.random.default_rng(0).integers(0, 256, (6, 16), dtype=np.uint8)
LABELS = np.array([0, 1, 0, 1, -1, 0])


def packed(labels: np.ndarray, splits: list[int]) -> PackedData:
    spec = DataSpec((1, 2, 2), ("a", "b"), (0.0,), (1.0,), 2)
    return PackedData(np.zeros((6, 1, 2, 2), np.uint8), labels, np.array(splits, np.uint8), IDS, spec, {})


def test_order_does_not_matter() -> None:
    """A later data version may store the same samples in another order."""
    order = [3, 0, 5, 1, 2, 4]
    assert holdout_digest(IDS[order], LABELS[order]) == holdout_digest(IDS, LABELS)


def test_a_label_or_a_sample_more_matters() -> None:
    """Relabelled, or grown: not the same holdout."""
    digest = holdout_digest(IDS, LABELS)
    relabelled = LABELS.copy()
    relabelled[0] = 1
    assert holdout_digest(IDS, relabelled) != digest
    assert holdout_digest(IDS[:5], LABELS[:5]) != digest


def test_only_labelled_test_rows_count() -> None:
    """Row 4 is in the test split without a label, row 0 is in training."""
    found = holdout_of(packed(LABELS, [0, 0, 1, 2, 2, 2]))
    assert found.rows.tolist() == [3, 5]
    assert found.labels.tolist() == [1, 0]
    assert found.digest == holdout_digest(IDS[[3, 5]], LABELS[[3, 5]])


def test_a_test_split_without_labels_is_refused() -> None:
    """With the way out."""
    with pytest.raises(SplitError, match=r"none of the 1 test samples has a label.*labelled test part"):
        holdout_of(packed(LABELS, [0, 0, 1, 1, 2, 0]))
