"""A model that a function of your own builds, pretrained or not: a checkpoint of transformers, timm or anything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from components.contracts import DataSpec, ModelParams
from components.errors import BadInputError
from components.functions import DOTTED, function_of, module_of

if TYPE_CHECKING:
    from torch import nn


class Params(ModelParams):
    """The function gets the DataSpec and the arguments, and returns a module that takes raw samples."""

    name: Literal["builder"] = "builder"
    builder: str = Field(pattern=DOTTED, description="module:function, such as acme.teachers:make")
    arguments: Mapping[str, Any] = Field(default_factory=dict, description="what the function is called with, by name")

    def modules(self) -> tuple[str, ...]:
        return (module_of(self.builder),)

    def build(self, data: DataSpec) -> nn.Module:
        """BadInputError where there is no such function, or it returns no module."""
        from torch import nn

        module = function_of(self.builder, place="builder")(data, **self.arguments)
        if not isinstance(module, nn.Module):
            raise BadInputError(f"builder {self.builder} must return a torch.nn.Module, not {type(module).__name__}")
        return module
