"""The softened divergence, and its gradient in closed form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from components.contracts import Batch, Signals

FEW_CLASSES = 16
"""Fewer than a vector register holds: a processor then takes the softmax of many columns far faster than of many rows."""


class SoftenedKL:
    """T^2 * KL(teacher || student), both softened by the temperature T; in nats.

    The gradient of the softened divergence shrinks with T^2, so the factor keeps it of one size
    and `alpha` means the same at every temperature.
    """

    needs = frozenset({"logits"})
    reduction: Literal["rows", "batch"] = "rows"

    def __init__(self, *, temperature: float, alpha: float) -> None:
        self.alpha = alpha
        # Tensors, because a number of Python's is made into one at every operation: that costs more than the operation.
        self._t, self._t_squared = (
            {dtype: torch.tensor(value, dtype=dtype) for dtype in (torch.float32, torch.float64)}
            for value in (temperature, temperature**2)
        )

    def __call__(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:  # noqa: ARG002 - labels play no part
        """Logits [N, C] twice -> [N]; half precision is widened to float32."""
        log_q, log_p, classes = self._softened(student, teacher)
        return (log_p.exp() * (log_p - log_q)).sum(classes) * self._t_squared[log_p.dtype]

    def rows_and_gradient(self, student: Signals, teacher: Signals, batch: Batch) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """`contracts.ClosedForm`: the gradient on the student's logits is T * (softmax(s/T) - softmax(t/T)).

        Hinton, Vinyals and Dean (2015), equation 2, times T^2 and without their approximation.
        """
        log_q, log_p, classes = self._softened(student, teacher)
        p = log_p.exp()
        losses = log_p.sub_(log_q).mul_(p).sum(classes).mul_(self._t_squared[p.dtype])
        gradient = log_q.exp_().sub_(p).mul_(self._t[p.dtype])
        return losses, gradient if classes else gradient.t()

    def parameters(self) -> Iterator[nn.Parameter]:
        return iter(())

    def _softened(self, student: Signals, teacher: Signals) -> tuple[Tensor, Tensor, int]:
        """Log-probabilities of student and teacher, and the dimension of their classes."""
        s, t = _wide(student.logits), _wide(teacher.logits)
        temperature = self._t[s.dtype]
        if s.shape[1] < FEW_CLASSES and s.device.type == "cpu":
            return torch.log_softmax(s.t() / temperature, 0), torch.log_softmax(t.t() / temperature, 0), 0
        return torch.log_softmax(s / temperature, 1), torch.log_softmax(t / temperature, 1), 1


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()
