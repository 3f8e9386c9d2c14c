"""A fully connected network for samples of any shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from components.contracts import DataSpec, ModelParams

if TYPE_CHECKING:
    from torch import nn


class Params(ModelParams):
    """Without hidden layers it is a linear classifier."""

    name: Literal["mlp"] = "mlp"
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field((64,), description="width of each hidden layer")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of each hidden layer dropped in training")

    def build(self, data: DataSpec) -> nn.Module:
        from components.models._mlp import MultilayerPerceptron

        return MultilayerPerceptron(data, **self.model_dump(exclude={"name"}))
