"""Distances of regression outputs to a teacher's, and their gradient in closed form."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from components.contracts import Batch, Signals
from components.errors import BadInputError
from components.objectives._base import OnLogits
from components.objectives._softened_kl import wide
from components.schedules import Scheduled

Loss = Literal["mse", "huber"]


class TowardTeacher(OnLogits):
    """Mean over outputs of the distance to the teacher, or of the teacher-bounded distance to the label.

    Distances are in standard deviations of the labels, as the hard-label loss is.
    """

    def __init__(
        self,
        *,
        loss: Loss,
        delta: float,
        teacher_bounded: float | None,
        target_std: tuple[float, ...] = (),
        alpha: Scheduled,
        weight: Scheduled = 1.0,
    ) -> None:
        super().__init__(alpha=alpha, weight=weight)
        self.loss, self.delta, self.margin = loss, delta, teacher_bounded
        self.target_std = target_std

    def __call__(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:
        """Outputs [N, D] twice -> [N]; half precision is widened to float32."""
        difference, counts = self._difference(student, teacher, batch)
        return self._distance(difference) * counts

    def rows_and_gradient(self, student: Signals, teacher: Signals, batch: Batch) -> tuple[Tensor, Tensor]:
        """`contracts.ClosedForm`: of a square, twice the difference; of Huber's, the difference cut at delta."""
        difference, counts = self._difference(student, teacher, batch)
        slope = 2 * difference if self.loss == "mse" else difference.clamp(-self.delta, self.delta)
        slope = self._in_deviations(slope) * (counts / difference.shape[1]).unsqueeze(1)
        return self._distance(difference) * counts, slope

    def _difference(self, student: Signals, teacher: Signals, batch: Batch) -> tuple[Tensor, Tensor]:
        """[N, D] to what each output approaches, and [N], 1 for the rows that count and 0 for the others."""
        s, p = wide(student.logits), wide(teacher.logits)
        if self.margin is None:
            return self._in_deviations(s - p), s.new_ones(len(s))
        aim = _labels_else(p, batch.labels)
        difference = self._in_deviations(s - aim)
        worse = self._distance(difference.detach()) + self.margin > self._distance(self._in_deviations(p - aim))
        return difference, worse.to(s.dtype)

    def _in_deviations(self, outputs: Tensor) -> Tensor:
        return outputs / outputs.new_tensor(self.target_std) if self.target_std else outputs

    def _distance(self, difference: Tensor) -> Tensor:
        """[N, D] -> [N]."""
        if self.loss == "mse":
            return difference.square().mean(1)
        size = difference.abs()
        linear = self.delta * (size - self.delta / 2)
        return torch.where(size <= self.delta, difference.square() / 2, linear).mean(1)


def _labels_else(predicted: Tensor, labels: Tensor) -> Tensor:
    """The labels, and the teacher's outputs [N, D] where there are none (NaN)."""
    if labels.shape != predicted.shape or not labels.is_floating_point():
        raise BadInputError(
            f"regression_kd with teacher_bounded needs a number for each of the {predicted.shape[1]} outputs as label; "
            f"these labels are {labels.dtype} {list(labels.shape)}: use a regression workload, or leave teacher_bounded out"
        )
    return torch.where(labels.isnan(), predicted, labels.to(predicted.dtype))
