"""What every model family ends with: outputs in the unit of the labels, from the last layer's well-conditioned ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from components.contracts import DataSpec


class LabelUnits(nn.Module):
    """[B, D] of mean 0 and deviation 1 -> [B, D] like the labels of the training split.

    So a last layer of usual size serves labels of any size, and the model says what they mean, exported too.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, data: DataSpec) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(data.target_mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(data.target_std, dtype=torch.float32))

    def forward(self, outputs: Tensor) -> Tensor:
        return outputs * self.std + self.mean


def label_units(data: DataSpec) -> nn.Module:
    """LabelUnits where labels are numbers; logits stay as they are."""
    return LabelUnits(data) if data.label_kind == "numbers" else nn.Identity()
