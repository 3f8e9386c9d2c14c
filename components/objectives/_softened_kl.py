"""The softened divergence, and its gradient in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from components.contracts import Batch, Signals
from components.objectives._base import OnLogits
from components.schedules import Scheduled, is_fixed, value_at

FEW_CLASSES = 16
"""Fewer than a vector register holds: a processor then takes the softmax of many columns far faster than of many rows."""


class SoftenedKL(OnLogits):
    """T^2 * KL(teacher || student), both softened by the temperature T; in nats.

    The gradient of the softened divergence shrinks with T^2, so the factor keeps it of one size
    and `alpha` means the same at every temperature.
    """

    def __init__(self, *, temperature: Scheduled, alpha: Scheduled, weight: Scheduled = 1.0) -> None:
        super().__init__(alpha=alpha, weight=weight)
        self.temperature = Temperature(temperature)

    def __call__(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:
        """Logits [N, C] twice -> [N]; half precision is widened to float32."""
        log_q, log_p, classes, t = self._softened(student, teacher, batch)
        return (log_p.exp() * (log_p - log_q)).sum(classes) * (t * t)

    def rows_and_gradient(self, student: Signals, teacher: Signals, batch: Batch) -> tuple[Tensor, Tensor]:
        """`contracts.ClosedForm`: the gradient on the student's logits is T * (softmax(s/T) - softmax(t/T)).

        Hinton, Vinyals and Dean (2015), equation 2, times T^2 and without their approximation.
        """
        log_q, log_p, classes, t = self._softened(student, teacher, batch)
        p = log_p.exp()
        losses = log_p.sub_(log_q).mul_(p).sum(classes).mul_(t * t)
        gradient = log_q.exp_().sub_(p).mul_(t)
        return losses, gradient if classes else gradient.t()

    def _softened(self, student: Signals, teacher: Signals, batch: Batch) -> tuple[Tensor, Tensor, int, Tensor]:
        """Log-probabilities of student and teacher, the dimension of their classes, and T."""
        s, p = wide(student.logits), wide(teacher.logits)
        t = self.temperature.at(batch.progress, s.dtype)
        if s.shape[1] < FEW_CLASSES and s.device.type == "cpu":
            return torch.log_softmax(s.t() / t, 0), torch.log_softmax(p.t() / t, 0), 0, t
        return torch.log_softmax(s / t, 1), torch.log_softmax(p / t, 1), 1, t


class Temperature:
    """T as a scalar tensor, fixed or by the share of the training done.

    A tensor, because a number of Python's is made into one at every operation: that costs more than the operation.
    """

    def __init__(self, value: Scheduled) -> None:
        self.value = value
        fixed = (torch.float32, torch.float64) if is_fixed(value) else ()
        self._fixed = {dtype: torch.tensor(value, dtype=dtype) for dtype in fixed}

    def at(self, progress: float, dtype: torch.dtype) -> Tensor:
        if self._fixed:
            return self._fixed[dtype]
        return torch.tensor(value_at(self.value, progress), dtype=dtype)


def wide(logits: Tensor) -> Tensor:
    """Half precision as float32; float32 and float64 as they are."""
    return logits if logits.dtype == torch.float64 else logits.float()
