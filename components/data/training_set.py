"""What a model is trained on: which rows, and which of their labels it may see."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.contracts import is_labelled

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from components.data.packed import PackedData


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Rows of the data set, and the labels of all of it as far as they are known to whoever trains on them."""

    rows: NDArray[np.int64]
    """[n], ascending."""
    labels: NDArray[Any]
    """Of one LabelKind and the whole data set; none where it is hidden, too."""
    num_drawn: int
    """Rows that an epoch consists of."""
    folds: NDArray[np.int64] | None = None
    """[N of the data set]; where there are any, views mix samples of one fold only."""

    def facts(self) -> dict[str, Any]:
        """What decides a training on these rows, JSON-able, for a key."""
        labels = self.labels[self.rows]
        return {
            "num_rows": len(self.rows),
            "num_labelled": int(is_labelled(labels).sum()),
            "num_drawn": self.num_drawn,
            "rows_sha256": _sha256(self.rows),
            "labels_sha256": _sha256(labels),
            **({} if self.folds is None else {"folds_sha256": _sha256(self.folds[self.rows])}),
        }


def _sha256(array: NDArray[Any]) -> str:
    return hashlib.sha256(array.astype("<f4" if array.dtype.kind == "f" else "<i8").tobytes()).hexdigest()


def teachers_set(data: PackedData) -> TrainingSet:
    """The training split with all its labels."""
    import numpy as np

    rows = data.rows("train")
    return TrainingSet(rows, np.array(data.labels), len(rows))
