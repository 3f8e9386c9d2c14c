"""Correlations of the student's probabilities with the teacher's."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.linalg import vector_norm

from components.contracts import Batch, Signals
from components.objectives._base import OnLogits, Reduction
from components.objectives._softened_kl import Temperature, wide
from components.schedules import Scheduled, value_at

TINY = 1e-8
"""Added to every product of norms, as in the authors' code: what does not vary correlates with nothing."""


class Relations(OnLogits):
    """T^2 * (beta * (1 - correlation of the row) + gamma * (1 - mean correlation of the columns)).

    The part of the columns is the batch's and the same in all rows, so that the mean over rows is the published loss.
    """

    reduction: Reduction = "batch"

    def __init__(
        self, *, temperature: Scheduled, beta: Scheduled, gamma: Scheduled, alpha: Scheduled, weight: Scheduled = 1.0
    ) -> None:
        super().__init__(alpha=alpha, weight=weight)
        self.temperature = Temperature(temperature)
        self.beta, self.gamma = beta, gamma

    def __call__(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:
        """Logits [N, C] twice -> [N]; half precision is widened to float32."""
        s, p = wide(student.logits), wide(teacher.logits)
        t = self.temperature.at(batch.progress, s.dtype)
        ours, theirs = torch.softmax(s / t, 1), torch.softmax(p / t, 1)
        inter = 1 - _correlation(ours, theirs, 1)
        intra = 1 - _correlation(ours, theirs, 0).mean()
        beta, gamma = value_at(self.beta, batch.progress), value_at(self.gamma, batch.progress)
        return (beta * inter + gamma * intra) * (t * t)


def _correlation(x: Tensor, y: Tensor, dim: int) -> Tensor:
    """Pearson's, of two matrices along *dim*."""
    x, y = x - x.mean(dim, keepdim=True), y - y.mean(dim, keepdim=True)
    return (x * y).sum(dim) / (vector_norm(x, dim=dim) * vector_norm(y, dim=dim) + TINY)
