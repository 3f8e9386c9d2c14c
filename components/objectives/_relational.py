"""Distances and angles among the samples of a batch, as two models see them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from components.contracts import Batch, Signals
from components.objectives._base import OnFeatures, Reduction
from components.schedules import Scheduled

EPS = 1e-12
"""Squared distances of different rows are at least so much, as in the authors' code."""

NUMBERS_AT_ONCE = 1 << 22
"""Cosines that are held at a time: 16 MB."""


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
        if self.angle_weight:
            losses = losses + self.angle_weight * angle_losses(directions(apart), directions(teacher_apart))
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


def angle_losses(ours: Tensor, theirs: Tensor) -> Tensor:
    """[N, N, D] directions twice -> [N]."""
    losses: Tensor = AngleLoss.apply(ours, theirs)
    return losses


def directions(apart: Tensor) -> Tensor:
    """[N, N, D] -> the same of length 1; 0 where two rows are one."""
    squares = apart.square().sum(2, keepdim=True)
    # Dividing by a bounded length instead would give equal rows, such as those of a dead layer, a gradient of 1e12.
    lengths = torch.where(squares > 0, squares, 1.0).sqrt().clamp_min(EPS)
    return torch.where(squares > 0, apart / lengths, 0.0)


class AngleLoss(torch.autograd.Function):
    """Huber loss of the cosines at each row between all pairs of others, with its gradient in closed form.

    A row's angles are N^2 numbers that depend on its own directions alone, so they are made for a few rows at a time:
    all N^3 of them, and what autograd keeps of them, would be a gigabyte at a batch of 400.
    """

    @staticmethod
    def forward(ctx: Any, ours: Tensor, theirs: Tensor) -> Tensor:
        """[N, N, D] directions of the student and of the teacher -> [N]; nothing flows to the teacher."""
        num_rows = len(ours)
        rows_at_once = max(1, NUMBERS_AT_ONCE // num_rows**2)
        losses, slopes = [], []
        for mine, other in zip(ours.split(rows_at_once), theirs.split(rows_at_once), strict=True):
            difference = mine @ mine.mT - other @ other.mT
            bounded = difference.clamp(-1, 1)
            slopes.append(bounded @ mine)
            losses.append((bounded * (difference - bounded / 2)).mean((1, 2)))
        # A direction is a factor of the cosines with all others from both sides.
        ctx.save_for_backward(torch.cat(slopes) * (2 / num_rows**2))
        return torch.cat(losses)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (slopes,) = ctx.saved_tensors
        return gradients[0].view(-1, 1, 1) * slopes, None
