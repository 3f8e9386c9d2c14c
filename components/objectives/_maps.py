"""Feature maps of two models brought to one size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from components.errors import BadInputError

MAP = 3
"""Dimensions of a feature map without the batch: channels, height, width."""


class AdaptiveMean(nn.Module):
    """[N, channels, H, W] -> [N, channels, h, w]: adaptive average pooling as two matrix products.

    A matrix product, because torch's own adaptive pooling has no deterministic backward pass on every device.
    """

    down: Tensor
    across: Tensor

    def __init__(self, size: tuple[int, int], smaller: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("down", _windows(size[0], smaller[0]), persistent=False)
        self.register_buffer("across", _windows(size[1], smaller[1]).t(), persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        return self.down @ maps @ self.across


def _windows(inputs: int, outputs: int) -> Tensor:
    """[outputs, inputs]: in each row one window of equal weights that sum to 1."""
    weights = torch.zeros(outputs, inputs)
    for cell in range(outputs):
        start, end = cell * inputs // outputs, -(-(cell + 1) * inputs // outputs)
        weights[cell, start:end] = 1 / (end - start)
    return weights


def meeting(ours: tuple[int, ...], theirs: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
    """What brings maps of the shapes [channels, H, W] of student and teacher to the smaller height and the smaller width."""
    smaller = (min(ours[1], theirs[1]), min(ours[2], theirs[2]))
    return _to(ours, smaller), _to(theirs, smaller)


def _to(shape: tuple[int, ...], smaller: tuple[int, int]) -> nn.Module:
    size = (shape[1], shape[2])
    return nn.Identity() if size == smaller else AdaptiveMean(size, smaller)


def unlike(pair: tuple[str, str], ours: tuple[int, ...], theirs: tuple[int, ...], allowed: str) -> BadInputError:
    """Says which two tap points do not go together, and what would."""
    return BadInputError(
        f"student.objective: tap point {pair[0]!r} of the student has the shape {ours} and {pair[1]!r} of the teacher "
        f"{theirs}, without the batch; allowed: {allowed}. Name two other tap points, or take an objective that compares "
        "features of any shape, such as rkd or similarity_preserving"
    )
