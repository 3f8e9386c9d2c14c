"""What a student is taught: an objective, and where its teacher's words come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.errors import BadInputError

if TYPE_CHECKING:
    from torch import nn

    from components.contracts import Objective
    from components.data.packed import PackedData
    from components.data.training_set import TrainingSet
    from components.params import StudentParams
    from components.training.losses import Targets
    from components.training.taps import FeatureTeacher

FEATURES = "features"


@dataclass(frozen=True, slots=True)
class Lesson:
    """Nothing, for a model that learns from hard labels alone."""

    objective: Objective | None = None
    targets: Targets | None = None
    """The teacher's logits."""
    teacher: FeatureTeacher | None = None
    """The teacher itself, where features are needed."""


def make_lesson(
    student: nn.Module,
    teacher: nn.Module | None,
    targets: Targets,
    *,
    data: PackedData,
    taught: TrainingSet,
    params: StudentParams,
) -> Lesson:
    """Build the objective for two models that were built; *teacher* is None where it needs no features.

    BadInputError where the models do not have what the objective listens to.
    """
    import numpy as np
    import torch

    from components.contracts import ObjectiveSpec
    from components.training.reproducible import initialised_objective
    from components.training.taps import FeatureTeacher, taps_of

    few = torch.from_numpy(np.array(data.samples[taught.rows[:2]]))
    spec = ObjectiveSpec(
        data=data.spec,
        student=taps_of(student, few),
        teacher=taps_of(teacher, few) if teacher else None,
        train_labels=taught.labels[taught.rows],
    )
    objective = initialised_objective(params.objective, spec, seed=params.seed)
    if objective.needs != params.objective.needs:
        raise BadInputError(
            f"objective {params.objective.name} needs {sorted(objective.needs)} of the teacher once it is built, and its "
            f"Params say {sorted(params.objective.needs)}: they must agree"
        )
    if teacher is None:
        return Lesson(objective, targets)
    return Lesson(objective, targets, FeatureTeacher(teacher, objective.teacher_taps, precision=params.live_precision))
