"""Probabilistic knowledge transfer: the neighbours of a sample are those that the teacher gives it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from components.contracts import Objective, ObjectiveSpec
from components.objectives._feature_params import EmbeddingParams
from components.schedules import Scheduled, Within


class Params(EmbeddingParams):
    """Passalis and Tefas, "Learning deep representations with probabilistic knowledge transfer" (ECCV 2018)."""

    name: Literal["pkt"] = "pkt"
    weight: Annotated[Scheduled, Within(ge=0)] = Field(
        10000.0, description="factor of the distillation part, whose size falls as the batch grows"
    )

    def build(self, spec: ObjectiveSpec) -> Objective:
        """BadInputError where a model does not have its tap point."""
        from components.objectives._base import shape_at
        from components.objectives._neighbours import ProbabilisticTransfer

        shape_at(spec.student, self.student_tap, "student")
        shape_at(spec.teacher, self.teacher_tap, "teacher")
        return ProbabilisticTransfer([(self.student_tap, self.teacher_tap)], alpha=self.alpha, weight=self.weight)
