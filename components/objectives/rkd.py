"""Relational knowledge distillation: distances and angles among samples are those that the teacher sees."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from components.contracts import Objective, ObjectiveSpec
from components.objectives._feature_params import EmbeddingParams
from components.schedules import Scheduled, Within


class Params(EmbeddingParams):
    """Park et al., "Relational knowledge distillation" (CVPR 2019)."""

    name: Literal["rkd"] = "rkd"
    weight: Annotated[Scheduled, Within(ge=0)] = Field(0.1, description="factor of the distillation part")
    distance_weight: float = Field(25.0, ge=0, description="factor of the distances' part")
    angle_weight: float = Field(
        50.0, ge=0, description="factor of the angles' part, whose time grows with the batch size cubed; 0 spares it"
    )

    @model_validator(mode="after")
    def _something_to_learn(self) -> Params:
        if self.distance_weight == self.angle_weight == 0:
            raise ValueError(
                "distance_weight and angle_weight are both 0: nothing is learnt; give one of them a weight"
            )
        return self

    def build(self, spec: ObjectiveSpec) -> Objective:
        """BadInputError where a model does not have its tap point."""
        from components.objectives._base import shape_at
        from components.objectives._relational import Relational

        shape_at(spec.student, self.student_tap, "student")
        shape_at(spec.teacher, self.teacher_tap, "teacher")
        return Relational(
            (self.student_tap, self.teacher_tap),
            distance_weight=self.distance_weight,
            angle_weight=self.angle_weight,
            alpha=self.alpha,
            weight=self.weight,
        )
