"""Distillation of relations: the student's probabilities need only correlate with the teacher's, by row and by class."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from components.contracts import Objective, ObjectiveParams, ObjectiveSpec
from components.schedules import Scheduled, Within


class Params(ObjectiveParams):
    """Huang, You, Wang, Qian and Xu, "Knowledge distillation from a stronger teacher" (NeurIPS 2022)."""

    name: Literal["dist"] = "dist"
    temperature: Annotated[Scheduled, Within(gt=0)] = Field(1.0, description="T, as of kd")
    beta: Annotated[Scheduled, Within(ge=0)] = Field(
        1.0, description="of the inter-class part: correlation over the classes of a row"
    )
    gamma: Annotated[Scheduled, Within(ge=0)] = Field(
        1.0, description="of the intra-class part: correlation over the rows of a batch, class by class"
    )

    def build(self, spec: ObjectiveSpec) -> Objective:  # noqa: ARG002 - it fits any number of classes
        from components.objectives._relations import Relations

        return Relations(
            temperature=self.temperature, beta=self.beta, gamma=self.gamma, alpha=self.alpha, weight=self.weight
        )
