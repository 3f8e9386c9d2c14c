"""The rows that arms are compared on, and the name by which two evaluations know that they saw the same ones."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    labels: NDArray[np.int64]
    """[N]."""
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


def holdout_digest(sample_ids: NDArray[np.uint8], labels: NDArray[np.int64]) -> str:
    """[N, 16], [N] -> hex; the same for the same labelled samples in any order."""
    records = sorted(
        sample_id.tobytes() + int(label).to_bytes(8, "little", signed=True)
        for sample_id, label in zip(sample_ids, labels, strict=True)
    )
    return hashlib.sha256(b"".join(records)).hexdigest()
