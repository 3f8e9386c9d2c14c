"""Distillation of standardised logits: the student matches how the teacher ranks and spaces classes, not how surely."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from components.contracts import Objective, ObjectiveParams, ObjectiveSpec
from components.schedules import Scheduled, Within


class Params(ObjectiveParams):
    """Sun, Ren, Li, Wang and Cao, "Logit standardization in knowledge distillation" (CVPR 2024)."""

    name: Literal["logit_standardised_kd"] = "logit_standardised_kd"
    alpha: Annotated[Scheduled, Within(ge=0, le=1)] = Field(
        0.5, description="share of the distillation part; the hard-label loss alone sets the scale of the logits"
    )
    temperature: Annotated[Scheduled, Within(gt=0)] = Field(
        0.5, description="the paper's base temperature, in standard deviations of a row's logits"
    )

    def build(self, spec: ObjectiveSpec) -> Objective:  # noqa: ARG002 - it fits any number of classes
        from components.objectives._standardised_kl import StandardisedKL

        return StandardisedKL(temperature=self.temperature, alpha=self.alpha, weight=self.weight)
