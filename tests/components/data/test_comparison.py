"""What changed between two versions: files by their hash, samples by their content, labels by their meaning."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from components.contracts import DataSpec
from components.data.comparison import compare_files, compare_samples, label_name, rows_per_class
from components.data.packed import PackedData
from components.sample_ids import sample_ids

NAMES = ("ant", "bee", "cat")
SAMPLES = st.lists(st.tuples(st.integers(0, 9), st.integers(-1, 2)), min_size=1, max_size=12)
"""Pixel and label of each row; equal pixels are copies of one sample."""


def packed(rows, class_names=NAMES, target_names=()) -> PackedData:
    samples = np.array([[[pixel]] for pixel, _ in rows], dtype=np.uint8).reshape(-1, 1, 1)
    numbers = [label for _, label in rows]
    labels = (
        np.array(numbers, dtype=np.float32).reshape(len(rows), -1)
        if target_names
        else np.array(numbers, dtype=np.int64)
    )
    spec = DataSpec((1, 1), () if target_names else class_names, (0.0,), (1.0,), len(rows), target_names=target_names)
    return PackedData(samples, labels, np.zeros(len(rows), np.uint8), sample_ids(samples), spec, {})


def labels_of(rows) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for pixel, label in rows:
        found.setdefault(pixel, set()).add(label)
    return found


@given(SAMPLES, SAMPLES)
def test_samples_are_compared_as_sets_of_labels_by_content(before, after):
    """Against plain dictionaries: every sample is in exactly one of four groups."""
    changes = compare_samples(packed(before), packed(after))
    old, new = labels_of(before), labels_of(after)

    assert [after[row][0] for row in changes.added] == [pixel for pixel in new if pixel not in old]
    assert [before[row][0] for row in changes.removed] == [pixel for pixel in old if pixel not in new]
    moved = {pixel for pixel in old.keys() & new.keys() if old[pixel] != new[pixel]}
    assert [after[row][0] for _, row in changes.relabelled] == [pixel for pixel in new if pixel in moved]
    assert [before[row][0] for row, _ in changes.relabelled] == [pixel for pixel in new if pixel in moved]
    assert changes.num_same == len(old.keys() & new.keys()) - len(moved)


def test_a_class_keeps_its_name_when_its_number_changes():
    """A new class in front of the others relabels nothing; a class of another name does."""
    before, after = packed([(0, 0), (1, 1)]), packed([(0, 1), (1, 2)], ("aardvark", *NAMES))
    renamed = packed([(0, 0), (1, 1)], ("ant", "wasp", "cat"))

    assert compare_samples(before, after).relabelled.tolist() == []
    assert compare_samples(before, renamed).relabelled.tolist() == [[1, 1]]


def test_labels_that_are_numbers():
    """Not there is the same as not there, and zero as minus zero; another number is another label."""
    before = packed([(0, 1.5), (1, np.nan), (2, 0.0), (3, 1.0)], target_names=("y",))
    after = packed([(0, 1.25), (1, np.nan), (2, -0.0), (3, np.nan)], target_names=("y",))

    assert compare_samples(before, after).relabelled.tolist() == [[0, 0], [3, 3]]
    assert label_name(before, 0) == "1.5"


def test_labels_of_another_kind_are_other_labels():
    """Classes became numbers."""
    assert len(compare_samples(packed([(0, 1)]), packed([(0, 1.0)], target_names=("y",))).relabelled) == 1


def test_rows_per_class_counts_every_row():
    """Copies and unlabelled ones too, these under a name of their own."""
    data = packed([(0, 0), (0, 0), (1, 2), (2, -1)])

    assert rows_per_class(data) == {"ant": 2, "bee": 0, "cat": 1, "(unlabelled)": 1}
    assert [label_name(data, row) for row in (2, 3)] == ["cat", "(unlabelled)"]
    assert rows_per_class(packed([(0, 1)])) == {"ant": 0, "bee": 1, "cat": 0}


def test_files_are_compared_by_hash():
    """Ascending, and a file that moved is removed and added."""
    changes = compare_files({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "9", "d": "3"})

    assert (changes.added, changes.removed, changes.changed, changes.num_same) == (("d",), ("c",), ("b",), 1)
