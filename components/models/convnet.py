"""A plain convolutional network for images: stages of 3x3 convolutions and a small head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from components.contracts import DataSpec, ModelParams

if TYPE_CHECKING:
    from torch import nn


class Params(ModelParams):
    """A handful of channels makes a student of a few thousand weights, hundreds make a teacher of millions."""

    name: Literal["convnet"] = "convnet"
    channels: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (32, 64, 128), min_length=1, description="width of each stage; the image is halved after every stage"
    )
    convs_per_stage: int = Field(1, ge=1, description="3x3 convolutions before each halving")
    norm: Literal["batch", "group", "none"] = Field("batch", description="after each convolution")
    pooling: Literal["global", "flatten"] = Field("global", description="how the last feature map becomes a vector")
    hidden: int = Field(0, ge=0, description="width of a fully connected layer before the last; 0: none")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="share of the features dropped before the last layer in training"
    )

    def build(self, data: DataSpec) -> nn.Module:
        """BadInputError where samples are no images."""
        from components.models._convnet import ConvNet

        return ConvNet(data, **self.model_dump(exclude={"name"}))
