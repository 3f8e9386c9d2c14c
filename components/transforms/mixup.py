"""Blend an image with another one of its split, labels alike (Zhang et al. 2017)."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from components.contracts import Mixing, MixingParams


class Params(MixingParams):
    """The share of the image itself is a whole number of 1/256; its hard-label loss is shared alike. Comes last."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "mixup"}, {"name": "mixup", "beta": 4.0, "probability": 0.5}]}
    )
    name: Literal["mixup"] = "mixup"
    beta: float = Field(
        1.0,
        ge=0.05,
        le=64,
        description="the share is drawn from Beta(beta, beta): 1 evenly, less mostly one of the two",
    )
    probability: float = Field(1.0, gt=0, le=1, description="share of the views that are mixed, in steps of 1/65536")

    def build(self, sample_shape: tuple[int, ...]) -> Mixing:  # noqa: ARG002 (any shape will do)
        """For samples of any shape."""
        from components.transforms._chances import Chance
        from components.transforms._mixing import Mixup

        return Mixup(self.beta, Chance.of(self.probability))
