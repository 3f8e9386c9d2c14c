"""Distances and angles among the samples of a batch, as two models see them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from components.contracts import Batch, Signals
from components.objectives._base import OnFeatures, Reduction
from components.schedules import Scheduled

EPS = 1e-12
"""Squared distances of different rows are at least so much, as in the authors' code."""


class Relational(OnFeatures):
    """Huber loss of distances, in units of their mean, and of the cosines of angles."""

    reduction: Reduction = "batch"

    def __init__(
        self,
        pair: tuple[str, str],
        *,
        distance_weight: float,
        angle_weight: float,
        alpha: Scheduled,
        weight: Scheduled,
    ) -> None:
        super().__init__([pair], alpha=alpha, weight=weight)
        self.distance_weight, self.angle_weight = distance_weight, angle_weight

    def forward(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:  # noqa: ARG002 - no labels are needed
        """-> [N], the mean over the pairs and the triplets that a row is the first of."""
        ((ours, theirs),) = self.heard(student, teacher)
        apart, teacher_apart = differences(ours.flatten(1)), differences(theirs.flatten(1))
        distance = functional.smooth_l1_loss(distances(apart), distances(teacher_apart), reduction="none").mean(1)
        losses = self.distance_weight * distance
        if self.angle_weight:  # N^3 numbers
            angle = functional.smooth_l1_loss(cosines(apart), cosines(teacher_apart), reduction="none").mean((1, 2))
            losses = losses + self.angle_weight * angle
        return losses


def differences(rows: Tensor) -> Tensor:
    """[N, D] -> [N, N, D]: at (i, j) row j less row i."""
    return rows.unsqueeze(0) - rows.unsqueeze(1)


def distances(apart: Tensor) -> Tensor:
    """[N, N, D] -> [N, N]: Euclidean, in units of the mean of those that are not 0; a row is 0 from itself."""
    itself = torch.eye(len(apart), dtype=torch.bool, device=apart.device)
    found = apart.square().sum(2).clamp_min(EPS).sqrt().masked_fill(itself, 0.0)
    mean = found.sum() / (found > 0).sum().clamp_min(1)
    return found / mean.clamp_min(EPS)


def cosines(apart: Tensor) -> Tensor:
    """[N, N, D] -> [N, N, N]: at (i, j, k) the cosine of the angle at i between j and k; 0 where two rows are one."""
    squares = apart.square().sum(2, keepdim=True)
    # Dividing by a bounded length instead would give equal rows, such as those of a dead layer, a gradient of 1e12.
    lengths = torch.where(squares > 0, squares, 1.0).sqrt().clamp_min(EPS)
    directions = torch.where(squares > 0, apart / lengths, 0.0)
    return directions @ directions.transpose(1, 2)
