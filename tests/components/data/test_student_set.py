"""Which rows a student learns from and which labels it sees: the few-label and transfer settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.contracts import UNLABELLED, DataSpec
from components.data.packed import PackedData
from components.data.student_set import hard_label_set, students_set
from components.data.training_set import TrainingSet, teachers_set
from components.errors import SplitError
from components.params import AllLabels, CountedLabels, IndexedLabels, RowChoice

TRAIN, VALIDATION, TEST, TRANSFER, LEFT_OUT = 0, 1, 2, 3, 255


def packed(splits: list[int], labels: list[int], **info: Any) -> PackedData:
    """Ids are random, and the same for the same row."""
    count = len(splits)
    ids = np.random.default_rng(7).integers(0, 256, (1000, 16), dtype=np.uint8)[:count]
    spec = DataSpec((1, 1, 1), ("a", "b"), (0.5,), (0.2,), count)
    samples = np.zeros((count, 1, 1, 1), dtype=np.uint8)
    return PackedData(samples, np.array(labels), np.array(splits, dtype=np.uint8), ids, spec, info)


SMALL = packed(
    [TRAIN, TRAIN, TRAIN, VALIDATION, TEST, TRANSFER, TRANSFER, LEFT_OUT], [0, 1, UNLABELLED, 0, 1, 0, UNLABELLED, 1]
)


def shown(found: TrainingSet) -> list[int]:
    return np.flatnonzero(found.labels != UNLABELLED).tolist()


@pytest.mark.parametrize(
    ("chosen", "rows"),
    [
        ("auto", [0, 1, 5, 6]),
        ("train", [0, 1, 2]),
        ("transfer", [5, 6]),
        ("both", [0, 1, 2, 5, 6]),
        ("labelled_and_transfer", [0, 1, 5, 6]),
    ],
)
def test_rows(chosen: RowChoice, rows: list[int]) -> None:
    """In ascending order, so that the same rows are the same soft targets."""
    found = students_set(SMALL, chosen, AllLabels(), None)

    assert found.rows.tolist() == rows
    assert found.num_drawn == len(rows)


def test_auto_is_train_without_a_transfer_set_however_few_labels_there_are() -> None:
    data = packed([TRAIN, TRAIN, TRAIN], [0, 1, UNLABELLED])
    few = CountedLabels(by="count", count=1)

    assert students_set(data, "auto", few, None).rows.tolist() == [0, 1, 2]
    with pytest.raises(SplitError, match="student.rows is 'both', and this data has no transfer samples"):
        students_set(data, "both", few, None)


def test_the_teacher_sees_no_transfer_row_and_all_labels() -> None:
    found = teachers_set(SMALL)

    assert found.rows.tolist() == [0, 1, 2]
    assert found.labels.tolist() == SMALL.labels.tolist()


def test_labels_that_are_not_shown_are_hidden_everywhere() -> None:
    """Those of transfer samples too; with few labels, auto keeps the training rows whose labels are seen."""
    found = students_set(SMALL, "auto", CountedLabels(by="count", count=1), None)

    assert len(shown(found)) == 1
    assert found.rows.tolist() == [*shown(found), 5, 6]


def test_labels_are_counted_where_the_rows_come_from() -> None:
    found = students_set(SMALL, "transfer", CountedLabels(by="count", count=1), None)

    assert shown(found) == [5]


def test_so_many_of_each_class() -> None:
    data = packed([TRAIN] * 100, [0] * 90 + [1] * 10)
    found = students_set(data, "train", CountedLabels(by="count", count=7, per="class"), None)
    of_all = students_set(data, "train", CountedLabels(by="count", count=50), None)

    assert np.bincount(found.labels[shown(found)]).tolist() == [7, 7]
    assert len(shown(of_all)) == 50
    with pytest.raises(SplitError, match="count is 11, and there are 10 labelled samples of class 'b' in train"):
        students_set(data, "train", CountedLabels(by="count", count=11, per="class"), None)
    with pytest.raises(SplitError, match="count is 101, and there are 100 labelled samples in train"):
        students_set(data, "train", CountedLabels(by="count", count=101), None)


@given(st.integers(1, 40), st.integers(0, 5))
def test_a_larger_count_keeps_the_labels_of_a_smaller_one(count: int, seed: int) -> None:
    """So a curve over the number of labels compares nested sets; more data displaces at most as many as it adds."""
    data, more = (packed([TRAIN] * size, [0, 1] * (size // 2)) for size in (100, 110))
    few, many = (CountedLabels(by="count", count=number, seed=seed) for number in (count, count + 10))

    kept = set(shown(students_set(data, "train", few, None)))
    assert kept < set(shown(students_set(data, "train", many, None)))
    assert len(kept - set(shown(students_set(more, "train", few, None)))) <= 10


def test_another_seed_draws_others() -> None:
    data = packed([TRAIN] * 100, [0, 1] * 50)
    drawn = {
        tuple(shown(students_set(data, "train", CountedLabels(by="count", count=10, seed=seed), None)))
        for seed in range(5)
    }

    assert len(drawn) == 5


def test_an_array_names_the_samples(tmp_path: Path) -> None:
    """Copies that were left out are let pass: they teach nobody."""
    file = tmp_path / "splits.npz"
    np.savez(file, labelled=np.array([1, 7], dtype=np.int32))
    found = students_set(SMALL, "auto", IndexedLabels(by="index"), file)

    assert found.rows.tolist() == [1, 5, 6]
    assert found.labels[found.rows].tolist() == [1, UNLABELLED, UNLABELLED]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([3, 4, 1], "labelled names samples of validation or test: 3, 4"),
        ([2], "labelled names samples that have no label: 2"),
        ([8], r"labelled names samples outside 0\.\.7: 8"),
        ([0.5], "must be one row of whole numbers"),
    ],
)
def test_samples_that_no_student_may_see(tmp_path: Path, rows: list[float], message: str) -> None:
    file = tmp_path / "splits.npz"
    np.savez(file, labelled=rows)
    with pytest.raises(SplitError, match=message):
        students_set(SMALL, "train", IndexedLabels(by="index"), file)


def test_arrays_and_orders_that_are_not_there(tmp_path: Path) -> None:
    file = tmp_path / "splits.npz"
    np.savez(file, labelled=[0])
    damaged = packed([TRAIN, TRAIN], [0, 1], damaged=["x: broken"])

    with pytest.raises(SplitError, match=r"has no array labeled \(did you mean 'labelled'\?\)"):
        students_set(SMALL, "train", IndexedLabels(by="index", array="labeled"), file)
    with pytest.raises(SplitError, match="counts the samples in order, and the damaged ones"):
        students_set(damaged, "train", IndexedLabels(by="index"), file)
    with pytest.raises(SplitError, match=r"student.labels.file .* is no .npz file"):
        file.write_bytes(b"text")
        students_set(SMALL, "train", IndexedLabels(by="index"), file)


def test_the_control_learns_from_the_same_rows_and_labels() -> None:
    few = students_set(SMALL, "auto", CountedLabels(by="count", count=1), None)

    assert hard_label_set(SMALL, few) is few


def test_without_a_label_the_control_learns_from_the_training_split() -> None:
    """For as many steps as the student, which learns from transfer samples alone."""
    data = packed([TRAIN, TRAIN, TRANSFER, TRANSFER, TRANSFER], [0, UNLABELLED, *[UNLABELLED] * 3])
    student = students_set(data, "transfer", AllLabels(), None)
    control = hard_label_set(data, student)

    assert (control.rows.tolist(), control.num_drawn) == ([0], 3)


def test_facts_tell_sets_apart_by_content() -> None:
    """However they were asked for: all labels of a set that has one are one label of it."""
    data = packed([TRAIN, TRAIN], [0, UNLABELLED])
    one, all_of_them = (
        students_set(data, "train", labels, None).facts()
        for labels in (CountedLabels(by="count", count=1), AllLabels())
    )
    other = students_set(packed([TRAIN, TRAIN], [1, UNLABELLED]), "train", AllLabels(), None).facts()

    assert one == all_of_them
    assert {name for name in one if one[name] != other[name]} == {"labels_sha256"}
