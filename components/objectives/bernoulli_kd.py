"""Distillation of sigmoid heads: every class is a yes-or-no question of its own, as with several labels a sample."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from components.contracts import Objective, ObjectiveParams, ObjectiveSpec
from components.schedules import Scheduled, Within


class Params(ObjectiveParams):
    """Hinton, Vinyals and Dean (2015) for a sigmoid in place of the softmax."""

    name: Literal["bernoulli_kd"] = "bernoulli_kd"
    temperature: Annotated[Scheduled, Within(gt=0)] = Field(
        1.0, description="T; a sigmoid's second thoughts need less softening than a softmax's"
    )
    over_classes: Literal["mean", "sum"] = Field(
        "mean",
        description="mean: of one size whatever the number of classes; sum: the divergence of all answers at once",
    )

    def build(self, spec: ObjectiveSpec) -> Objective:  # noqa: ARG002 - it fits any number of classes
        from components.objectives._bernoulli_kl import BernoulliKL

        return BernoulliKL(
            temperature=self.temperature, over_classes=self.over_classes, alpha=self.alpha, weight=self.weight
        )
