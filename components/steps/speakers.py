"""Who speaks about which sample: the one teacher, or where there are folds, the one that has not seen the sample."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from components.artifacts.artifact import Artifact

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FOLDS = "folds.json"
FOLD_MAP = "folds.npy"


def num_folds(inputs: Mapping[str, Artifact]) -> int:
    """1 where one teacher speaks about all samples, as it did before there were folds."""
    return int(inputs["fold_teachers"].read_json(FOLDS)["count"]) if "fold_teachers" in inputs else 1


def teacher_of(fold_teachers: Artifact, fold: int) -> Artifact:
    """The model that was trained without *fold*, as an artifact within the artifact."""
    name = f"{fold_teachers.digest}/{fold}"
    return Artifact("teacher", name, name, fold_teachers.root / f"teacher-{fold}")


def fold_digest(inputs: Mapping[str, Artifact]) -> str:
    """Of the fold map and all of its teachers; empty where there are none."""
    return inputs["fold_teachers"].digest if num_folds(inputs) > 1 else ""


def folds_of(inputs: Mapping[str, Artifact]) -> NDArray[np.int64] | None:
    """[N of the data set], NO_FOLD where the one teacher speaks; None where it speaks about all."""
    import numpy as np

    if num_folds(inputs) == 1:
        return None
    return np.asarray(np.load(inputs["fold_teachers"].file(FOLD_MAP), allow_pickle=False))


def speakers(inputs: Mapping[str, Artifact]) -> tuple[tuple[Artifact, ...], NDArray[np.int64] | None]:
    """All who speak, and which of them speaks about each row of the data set; None where the first does about all."""
    folds = folds_of(inputs)
    if folds is None:
        return (inputs["teacher"],), None
    others = (teacher_of(inputs["fold_teachers"], fold) for fold in range(num_folds(inputs)))
    # NO_FOLD is -1, and the one teacher comes first.
    return (inputs["teacher"], *others), folds + 1


def speakers_digest(inputs: Mapping[str, Artifact]) -> str:
    """Of what decides the answers of all who speak; the same for one model brought to several data versions."""
    from components.artifacts.artifact import sha256_of
    from components.saved_models import model_digest

    digests = [model_digest(teacher) for teacher in speakers(inputs)[0]]
    if len(digests) == 1:
        return digests[0]
    folds = sha256_of(inputs["fold_teachers"].file(FOLD_MAP))
    return hashlib.sha256(json.dumps([*digests, folds]).encode()).hexdigest()
