"""What every model family begins with: raw uint8 samples made into normalised numbers, inside the model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from components.contracts import DataSpec
from components.errors import BadInputError


class Prepare(nn.Module):
    """[B, *S] as stored -> float32 [B, *S], each channel with the mean 0 and the deviation 1 of the training split.

    `mean` and `std` are buffers [channels], of uint8 for values scaled to 0..1, so they are saved and exported with the
    weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, data: DataSpec) -> None:
        super().__init__()
        channels = data.sample_shape[0]
        if not len(data.channel_mean) == len(data.channel_std) == channels:
            raise BadInputError(
                f"samples of shape {data.sample_shape} have {channels} channels, but there are "
                f"{len(data.channel_mean)} channel means and {len(data.channel_std)} deviations"
            )
        self.unit = 255 if data.sample_dtype == "uint8" else 1
        self.view = (channels,) + (1,) * (len(data.sample_shape) - 1)
        self.register_buffer("mean", torch.tensor(data.channel_mean, dtype=torch.float32))
        # A constant channel has nothing to scale.
        self.register_buffer("std", torch.tensor([std or 1.0 for std in data.channel_std], dtype=torch.float32))

    def forward(self, samples: Tensor) -> Tensor:
        scale = (self.unit * self.std).reciprocal().view(self.view)
        shift = (-self.mean / self.std).view(self.view)
        return (samples.to(self.mean.dtype) * scale).add_(shift)


class GlobalMean(nn.Module):
    """[B, channels, H, W] -> [B, channels]."""

    def forward(self, maps: Tensor) -> Tensor:
        # A plain mean, since the backward pass of adaptive pooling is not deterministic on every device.
        return maps.mean(dim=(2, 3))


class Flat(nn.Module):
    """[B, channels, H, W] -> [B, channels * H * W]."""

    def forward(self, maps: Tensor) -> Tensor:
        return torch.flatten(maps, 1)


def image_shape(data: DataSpec, family: str) -> tuple[int, int, int]:
    """(channels, height, width); BadInputError where samples are no images."""
    if len(data.sample_shape) != 3:
        raise BadInputError(
            f"model {family!r} takes images (channels, height, width), but samples have the shape {data.sample_shape}; "
            "the model 'mlp' takes any shape"
        )
    channels, height, width = data.sample_shape
    return channels, height, width


def norm_layer(kind: str, channels: int) -> nn.Module:
    """Normalisation of [B, channels, ...]: 'batch', 'group' (independent of the batch) or 'none'."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        return nn.GroupNorm(_num_groups(channels), channels)
    return nn.Identity()


def _num_groups(channels: int) -> int:
    """The largest number of groups, 8 at most, that divides *channels*."""
    return next(groups for groups in range(min(8, channels), 0, -1) if channels % groups == 0)
