"""Decoupled distillation: what the teacher says of the labelled class and of all others, each with its own weight."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from components.contracts import Objective, ObjectiveParams, ObjectiveSpec
from components.schedules import Scheduled, Within


class Params(ObjectiveParams):
    """Zhao, Cui, Song, Qiu and Liang, "Decoupled knowledge distillation" (CVPR 2022)."""

    name: Literal["dkd"] = "dkd"
    alpha: Annotated[Scheduled, Within(ge=0, le=1)] = Field(
        0.5, description="share of the distillation part; tiny students want as much of the hard-label loss"
    )
    temperature: Annotated[Scheduled, Within(gt=0)] = Field(2.0, description="T, as of kd")
    target_weight: Annotated[Scheduled, Within(ge=0)] = Field(
        1.0, description="the paper's alpha: of the divergence between labelled class and all others together"
    )
    non_target_weight: Annotated[Scheduled, Within(ge=0)] = Field(
        1.0,
        description="the paper's beta: of the divergence among the other classes; theirs of 8 is too much for tiny students",
    )

    def build(self, spec: ObjectiveSpec) -> Objective:  # noqa: ARG002 - it fits any number of classes
        from components.objectives._decoupled_kl import DecoupledKL

        return DecoupledKL(
            temperature=self.temperature,
            target_weight=self.target_weight,
            non_target_weight=self.non_target_weight,
            alpha=self.alpha,
            weight=self.weight,
        )
