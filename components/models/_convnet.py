"""The network of the family convnet."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from components.contracts import DataSpec
from components.models._images import Flat, GlobalMean, Prepare, image_shape, norm_layer
from components.models._outputs import label_units


class ConvNet(nn.Module):
    """[B, *S] -> [B, C], or [B, D] in the labels' unit: stages of 3x3 convolutions, halved between, then a small head."""

    def __init__(
        self,
        data: DataSpec,
        *,
        channels: Sequence[int],
        convs_per_stage: int,
        norm: str,
        pooling: str,
        hidden: int,
        dropout: float,
    ) -> None:
        super().__init__()
        inputs, height, breadth = image_shape(data, "convnet")
        self.prepare = Prepare(data)
        stages: list[nn.Module] = []
        ends = []
        for out in channels:
            for position in range(convs_per_stage):
                stages += _convolution(inputs if position == 0 else out, out, norm)
            if min(height, breadth) >= 2:
                stages.append(nn.MaxPool2d(2))
                height, breadth = height // 2, breadth // 2
            inputs = out
            ends.append(len(stages) - 1)
        self.stages = nn.Sequential(*stages)
        self.pool = Flat() if pooling == "flatten" else GlobalMean()
        features = inputs if pooling == "global" else inputs * height * breadth
        self.head = _head(features, hidden, dropout, data.num_outputs)
        self.units = label_units(data)
        stage_ends = {f"stage{number}": f"stages.{end}" for number, end in enumerate(ends, start=1)}
        self.tap_points = {**stage_ends, "embedding": "head.1" if hidden else "pool"}

    def forward(self, samples: Tensor) -> Tensor:
        logits: Tensor = self.units(self.head(self.pool(self.stages(self.prepare(samples)))))
        return logits


def _convolution(inputs: int, outputs: int, norm: str) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=norm == "none")
    return [convolution, norm_layer(norm, outputs), nn.ReLU()]


def _head(features: int, hidden: int, dropout: float, num_outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    if hidden:
        layers += [nn.Linear(features, hidden), nn.ReLU()]
    if dropout:
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, nn.Linear(hidden or features, num_outputs))
