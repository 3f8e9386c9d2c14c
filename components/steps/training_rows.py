"""Which rows the student learns from and which labels it sees, looked up before each step that depends on it.

What was found is part of the key, not the way in which it was asked for: a sweep over the number of labels asks the
teacher once, as long as the rows stay the same.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.contracts import Resolved
from components.errors import SplitError
from components.params import IndexSplit, Params
from components.settings import find_local

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from components.artifacts.artifact import Artifact
    from components.data.packed import PackedData
    from components.data.training_set import TrainingSet
    from components.steps.step import StepContext, World

SET = "student_set"
"""Of the facts."""
ROWS = ("num_rows", "rows_sha256", "folds_sha256")
"""What the teacher is asked about depends on."""


def students_set(data: Artifact, params: Params) -> TrainingSet:
    """Of the distilled student."""
    from components.data import student_set
    from components.data.packed import open_packed

    student, packed = params.student, open_packed(data)
    found = student_set.students_set(packed, student.rows, student.labels, _labels_file(params))
    return replace(found, folds=_folds_that_mix(packed, params))


def _folds_that_mix(data: PackedData, params: Params) -> NDArray[np.int64] | None:
    """The folds, where they decide which views there are."""
    from components.data.folds import fold_map

    if params.teacher.folds == 1 or not params.student.views.mixes:
        return None
    return fold_map(data, params.teacher.folds)


def hard_label_set(data: Artifact, params: Params) -> TrainingSet:
    """Of its control."""
    from components.data import student_set
    from components.data.packed import open_packed

    return student_set.hard_label_set(open_packed(data), students_set(data, params))


def resolve_student(world: World) -> Resolved:
    return Resolved(facts={SET: students_set(world.inputs["data"], world.params).facts()})


def resolve_rows(world: World) -> Resolved:
    """The rows alone: what the teacher says does not depend on the labels that the student sees."""
    facts = students_set(world.inputs["data"], world.params).facts()
    return Resolved(facts={SET: {name: facts[name] for name in ROWS if name in facts}})


def resolve_hard_labels(world: World) -> Resolved:
    return Resolved(facts={SET: hard_label_set(world.inputs["data"], world.params).facts()})


def as_resolved(found: TrainingSet, ctx: StepContext) -> TrainingSet:
    """*found* itself; SplitError if a file of labels changed since the key was made."""
    expected: Any = ctx.resolved.facts[SET]
    if {name: value for name, value in found.facts().items() if name in expected} != expected:
        raise SplitError("student.labels.file changed while it was about to be read; run the same command again")
    return found


def _labels_file(params: Params) -> Path | None:
    labels, split = params.student.labels, params.data.split
    if labels.by != "index":
        return None
    named = labels.file or (split.file if isinstance(split, IndexSplit) else None)
    assert named is not None, "params refuse it"
    found = find_local(named)
    if found is None:
        raise SplitError(f"student.labels.file {named} does not exist (looked from {Path.cwd()})")
    return found
