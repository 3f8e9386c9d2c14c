"""The network of the family resnet."""

from __future__ import annotations

from torch import Tensor, nn

from components.contracts import DataSpec
from components.models._images import GlobalMean, Prepare, image_shape, norm_layer
from components.models._outputs import label_units

BASE_WIDTHS = (16, 32, 64)


class ResNet(nn.Module):
    """[B, *S] -> [B, C], or [B, D] in the labels' unit: the three-stage residual network for small images.

    He et al., "Deep residual learning for image recognition" (CVPR 2016), section 4.2, with a 1x1
    convolution in the shortcut wherever the shape changes. Depth is 6n + 2: n blocks a stage, two
    convolutions a block, the stem and the last layer.
    """

    def __init__(self, data: DataSpec, *, depth: int, width: float, norm: str, dropout: float) -> None:
        super().__init__()
        inputs, _, _ = image_shape(data, "resnet")
        widths = [max(1, round(base * width)) for base in BASE_WIDTHS]
        self.prepare = Prepare(data)
        self.stem = nn.Sequential(_convolution(inputs, widths[0], 3), norm_layer(norm, widths[0]), nn.ReLU())
        blocks: list[nn.Module] = []
        for before, after in zip((widths[0], *widths), widths, strict=False):
            stride = 1 if not blocks else 2
            blocks.append(Block(before, after, stride, norm))
            blocks += [Block(after, after, 1, norm) for _ in range((depth - 2) // 6 - 1)]
        self.blocks = nn.Sequential(*blocks)
        self.pool = GlobalMean()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], data.num_outputs)
        self.units = label_units(data)
        per_stage = (depth - 2) // 6
        stage_ends = {f"stage{number}": f"blocks.{number * per_stage - 1}" for number in range(1, len(widths) + 1)}
        self.tap_points = {**stage_ends, "embedding": "pool"}

    def forward(self, samples: Tensor) -> Tensor:
        maps = self.blocks(self.stem(self.prepare(samples)))
        logits: Tensor = self.units(self.head(self.dropout(self.pool(maps))))
        return logits


class Block(nn.Module):
    """[B, before, H, W] -> [B, after, H / stride, W / stride]: two convolutions and a shortcut around them."""

    def __init__(self, before: int, after: int, stride: int, norm: str) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _convolution(before, after, 3, stride),
            norm_layer(norm, after),
            nn.ReLU(),
            _convolution(after, after, 3),
            norm_layer(norm, after),
        )
        same = before == after and stride == 1
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(_convolution(before, after, 1, stride), norm_layer(norm, after))
        )
        self.activation = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        activated: Tensor = self.activation(self.residual(maps) + self.shortcut(maps))
        return activated


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution
