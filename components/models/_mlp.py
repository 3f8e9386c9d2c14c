"""The network of the family mlp."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from components.contracts import DataSpec
from components.models._images import Prepare
from components.models._outputs import label_units


class MultilayerPerceptron(nn.Module):
    """[B, *S] as stored -> [B, C], or [B, D] in the labels' unit: every value of a sample is an input."""

    def __init__(self, data: DataSpec, *, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.prepare = Prepare(data)
        layers: list[nn.Module] = []
        width = math.prod(data.sample_shape)
        ends = []
        for out in hidden:
            layers += [nn.Linear(width, out), nn.ReLU()]
            ends.append(len(layers) - 1)
            layers += [nn.Dropout(dropout)] if dropout else []
            width = out
        self.layers = nn.Sequential(*layers, nn.Linear(width, data.num_outputs))
        self.units = label_units(data)
        hidden_ends = {f"stage{number}": f"layers.{end}" for number, end in enumerate(ends, start=1)}
        self.tap_points = {**hidden_ends, **({"embedding": f"layers.{ends[-1]}"} if ends else {})}

    def forward(self, samples: Tensor) -> Tensor:
        logits: Tensor = self.units(self.layers(torch.flatten(self.prepare(samples), 1)))
        return logits
