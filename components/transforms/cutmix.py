"""Paste a box of another image of its split over an image, labels alike (Yun et al. 2019)."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from components.contracts import Mixing, MixingParams
from components.transforms._shapes import image_shape


class Params(MixingParams):
    """A box of the image's own shape about an even centre, cut at the border; labels by area. Comes last."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "cutmix"}, {"name": "cutmix", "beta": 4.0, "probability": 0.5}]}
    )
    name: Literal["cutmix"] = "cutmix"
    beta: float = Field(
        1.0,
        ge=0.05,
        le=64,
        description="one minus the box's share of the area is drawn from Beta(beta, beta), in steps of 1/256",
    )
    probability: float = Field(1.0, gt=0, le=1, description="share of the views that are mixed, in steps of 1/65536")

    def build(self, sample_shape: tuple[int, ...]) -> Mixing:
        """For samples [channels, height, width]; BadInputError for others."""
        from components.transforms._chances import Chance
        from components.transforms._mixing import Cutmix

        _, height, width = image_shape("cutmix", sample_shape)
        return Cutmix(height, width, self.beta, Chance.of(self.probability))
