"""Distillation by regression: the student's raw logits approach the teacher's."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from components.contracts import Objective, ObjectiveParams, ObjectiveSpec
from components.schedules import Scheduled, Within


class Params(ObjectiveParams):
    """Ba and Caruana, "Do deep nets really need to be deep?" (NeurIPS 2014); Kim et al. (IJCAI 2021)."""

    name: Literal["mse_logits"] = "mse_logits"
    alpha: Annotated[Scheduled, Within(ge=0, le=1)] = Field(
        0.5, description="share of the distillation part; the rest is the hard-label loss"
    )
    weight: Annotated[Scheduled, Within(ge=0)] = Field(
        0.02, description="factor of the distillation part, whose size is that of squared logits"
    )
    centre: bool = Field(
        False, description="subtract each row's mean from both sides, since softmax does not see a constant"
    )

    def build(self, spec: ObjectiveSpec) -> Objective:  # noqa: ARG002 - it fits any number of classes
        from components.objectives._squared_error import SquaredError

        return SquaredError(centre=self.centre, alpha=self.alpha, weight=self.weight)
