"""A residual network for small images (CIFAR style), of any depth 6n + 2 and any width."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from components.contracts import DataSpec, ModelParams

if TYPE_CHECKING:
    from torch import nn


class Params(ModelParams):
    """Depth 20 and width 1 are the classic small one; any number of channels and any image size will do."""

    name: Literal["resnet"] = "resnet"
    depth: int = Field(20, ge=8, description="6n + 2: 8, 14, 20, 26, 32, 44, 56, 110, ...")
    width: float = Field(1.0, gt=0, description="factor on the 16, 32 and 64 channels of the three stages")
    norm: Literal["batch", "group"] = Field("batch", description="after each convolution")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="share of the features dropped before the last layer in training"
    )

    @field_validator("depth")
    @classmethod
    def _is_6n_plus_2(cls, depth: int) -> int:
        if (depth - 2) % 6:
            below = depth - (depth - 2) % 6
            raise ValueError(f"must be 6n + 2; the nearest depths are {below} and {below + 6}")
        return depth

    def build(self, data: DataSpec) -> nn.Module:
        """BadInputError where samples are no images."""
        from components.models._resnet import ResNet

        return ResNet(data, **self.model_dump(exclude={"name"}))
