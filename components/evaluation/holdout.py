"""The rows that arms are compared on, and the name by which two evaluations know that they saw the same ones."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from components.errors import SplitError

if TYPE_CHECKING:
    from components.data.packed import PackedData


@dataclass(frozen=True, slots=True)
class Holdout:
    """The labelled rows of the test split."""

    rows: NDArray[np.int64]
    """[N], indices into the data's samples."""
    labels: NDArray[Any]
    """[N] int64, or [N, D] float32 where labels are numbers."""
    digest: str
    """sha256 over the sorted (sample id, label) pairs."""


def holdout_of(data: PackedData) -> Holdout:
    """The one holdout of *data*; raises SplitError when no test sample has a label."""
    rows = data.labelled_rows("test")
    if not len(rows):
        raise SplitError(
            f"none of the {len(data.rows('test'))} test samples has a label: nothing can be measured; "
            "give data.split a labelled test part"
        )
    labels = np.asarray(data.labels[rows])
    return Holdout(rows, labels, holdout_digest(np.asarray(data.sample_ids[rows]), labels))


def holdout_digest(sample_ids: NDArray[np.uint8], labels: NDArray[Any]) -> str:
    """[N, 16], [N] or [N, D] -> hex; the same for the same labelled samples in any order."""
    stored = labels.astype("<f4" if labels.dtype.kind == "f" else "<i8")
    records = sorted(sample_id.tobytes() + label.tobytes() for sample_id, label in zip(sample_ids, stored, strict=True))
    return hashlib.sha256(b"".join(records)).hexdigest()
