"""Similarity-preserving distillation: samples that are alike to the teacher are alike to the student."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from components.contracts import Objective, ObjectiveSpec
from components.objectives._feature_params import FeatureParams
from components.schedules import Scheduled, Within


class Params(FeatureParams):
    """Tung and Mori, "Similarity-preserving knowledge distillation" (ICCV 2019)."""

    name: Literal["similarity_preserving"] = "similarity_preserving"
    weight: Annotated[Scheduled, Within(ge=0)] = Field(300.0, description="factor of the distillation part")
    student_tap: str | None = Field(
        None, description="tap point of the student; default: the last of the stages that both models name"
    )
    teacher_tap: str | None = Field(None, description="tap point of the teacher; default: the one of the same name")

    def build(self, spec: ObjectiveSpec) -> Objective:
        """BadInputError where a model does not have its tap point."""
        from components.objectives._base import common_stages, shape_at
        from components.objectives._similarity import SimilarityPreserving

        ours = self.student_tap or common_stages(spec)[-1]
        theirs = self.teacher_tap or ours
        shape_at(spec.student, ours, "student")
        shape_at(spec.teacher, theirs, "teacher")
        return SimilarityPreserving([(ours, theirs)], alpha=self.alpha, weight=self.weight)
