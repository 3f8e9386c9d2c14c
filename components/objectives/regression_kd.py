"""Distillation of regression: the student approaches the teacher's numbers, or the label while it is worse than them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from components.contracts import LabelKind, Objective, ObjectiveParams, ObjectiveSpec


class Params(ObjectiveParams):
    """Chen, Choi, Yu, Han and Chandraker, "Learning efficient object detection models with knowledge distillation" (2017)."""

    name: Literal["regression_kd"] = "regression_kd"
    loss: Literal["mse", "huber"] = Field("mse", description="mse: squared distance; huber: linear beyond `delta`")
    delta: float = Field(1.0, gt=0, description="where huber turns linear, in standard deviations of the labels")
    teacher_bounded: float | None = Field(
        None,
        ge=0,
        description="margin, in units of the loss: labelled rows approach the label, and count only while the student's "
        "loss there plus this margin exceeds the teacher's; null: all rows approach the teacher",
    )

    @property
    def learns(self) -> frozenset[LabelKind]:
        return frozenset({"numbers"})

    def build(self, spec: ObjectiveSpec) -> Objective:
        from components.objectives._regression import TowardTeacher

        return TowardTeacher(
            loss=self.loss,
            delta=self.delta,
            teacher_bounded=self.teacher_bounded,
            target_std=spec.data.target_std,
            alpha=self.alpha,
            weight=self.weight,
        )
