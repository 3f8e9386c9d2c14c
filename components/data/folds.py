"""Folds of the labelled training samples: a teacher that has not seen a fold speaks about it.

A teacher is over-confident on samples whose labels it was trained on. Cross-fitted predictions avoid that, as in the
level-one data of stacking (Wolpert, "Stacked generalization", Neural Networks 1992).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.data.splits import hashes
from components.data.training_set import TrainingSet, teachers_set
from components.errors import SplitError, some_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from components.data.packed import PackedData

SALT = "folds"
NO_FOLD = -1


def fold_map(data: PackedData, count: int) -> NDArray[np.int64]:
    """[N]: the fold of each labelled training sample, by its id, so that it keeps it in every later version.

    NO_FOLD for samples that no teacher learns from, and for all where *count* is 1.
    SplitError where a fold holds nothing.
    """
    import numpy as np

    folds = np.full(len(data), NO_FOLD, dtype=np.int64)
    if count == 1:
        return folds
    rows = data.labelled_rows("train")
    folds[rows] = [value % count for value in hashes(data.sample_ids[rows], SALT)]
    if empty := sorted(set(range(count)) - set(folds[rows].tolist())):
        raise SplitError(
            f"teacher.folds is {count}, and of the {len(rows)} labelled training samples none is in fold {some_of(empty)}: "
            "lower teacher.folds"
        )
    return folds


def without_fold(data: PackedData, folds: NDArray[np.int64], fold: int) -> TrainingSet:
    """What the teacher of *fold* is trained on."""
    whole = teachers_set(data)
    rows = whole.rows[folds[whole.rows] != fold]
    return TrainingSet(rows, whole.labels, len(rows))
