"""Folds: a sample keeps its fold, and no teacher of a fold learns from it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.contracts import UNLABELLED, DataSpec
from components.data.folds import NO_FOLD, fold_map, without_fold
from components.data.packed import PackedData
from components.errors import SplitError


def packed(count: int) -> PackedData:
    """Half of the samples in training, of which every tenth has no label; ids are random, and the same for a row."""
    ids = np.random.default_rng(7).integers(0, 256, (1000, 16), dtype=np.uint8)[:count]
    labels = np.where(np.arange(count) % 20 == 0, UNLABELLED, 0)
    splits = np.array([0, 1, 0, 3], dtype=np.uint8)[np.arange(count) % 4]
    spec = DataSpec((1, 1, 1), ("a",), (0.5,), (0.2,), count)
    return PackedData(np.zeros((count, 1, 1, 1), dtype=np.uint8), labels, splits, ids, spec, {})


@given(st.integers(2, 8))
def test_each_labelled_training_sample_is_in_one_fold(count: int) -> None:
    """Of about one size; unlabelled and transfer samples are in none, for the teacher of all speaks about them."""
    data = packed(1000)
    folds = fold_map(data, count)
    labelled = data.labelled_rows("train")

    assert set(np.flatnonzero(folds != NO_FOLD)) == set(labelled)
    sizes = np.bincount(folds[labelled], minlength=count)
    assert (abs(sizes - len(labelled) / count) < 5 * np.sqrt(len(labelled) / count)).all()


def test_samples_keep_their_fold_when_more_come() -> None:
    assert np.array_equal(fold_map(packed(500), 4), fold_map(packed(1000), 4)[:500])


def test_the_teacher_of_a_fold_learns_from_all_others() -> None:
    data = packed(200)
    folds = fold_map(data, 3)
    for fold in range(3):
        taught = without_fold(data, folds, fold)
        left_out = set(data.rows("train")) - set(taught.rows)

        assert left_out == set(np.flatnonzero(folds == fold))
        assert taught.labels.tolist() == data.labels.tolist()


def test_one_fold_is_none() -> None:
    assert (fold_map(packed(40), 1) == NO_FOLD).all()


def test_more_folds_than_samples_are_refused() -> None:
    with pytest.raises(
        SplitError, match="teacher.folds is 50, and of the 18 labelled training samples none is in fold"
    ):
        fold_map(packed(40), 50)
