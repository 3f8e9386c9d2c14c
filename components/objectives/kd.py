"""Knowledge distillation as first proposed: the student matches the teacher's softened class probabilities."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from components.contracts import Objective, ObjectiveParams, ObjectiveSpec
from components.schedules import Scheduled, Within


class Params(ObjectiveParams):
    """Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network" (2015)."""

    name: Literal["kd"] = "kd"
    temperature: Annotated[Scheduled, Within(gt=0)] = Field(
        4.0, description="T; 1 keeps the teacher's own sharpness, more shows its second thoughts"
    )

    def build(self, spec: ObjectiveSpec) -> Objective:  # noqa: ARG002 - it fits any number of classes
        from components.objectives._softened_kl import SoftenedKL

        return SoftenedKL(temperature=self.temperature, alpha=self.alpha, weight=self.weight)
