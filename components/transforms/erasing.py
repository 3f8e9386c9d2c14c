"""Erase a random box of an image (Zhong et al. 2017; DeVries and Taylor 2017)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from components.contracts import Transform, TransformParams
from components.transforms._shapes import image_shape

AREAS_PER_UNIT = 1024


class Params(TransformParams):
    """Area drawn evenly, shape evenly in its logarithm, place evenly among those inside the image; whole pixels."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "erasing", "probability": 1.0, "area_max": 0.25},
                {"name": "erasing", "area_min": 0.1, "area_max": 0.3, "aspect_max": 2, "fill": "noise"},
            ]
        }
    )
    name: Literal["erasing"] = "erasing"
    probability: float = Field(0.5, gt=0, le=1, description="share of the views that lose a box, in steps of 1/65536")
    area_min: float = Field(
        0.02, ge=0.001, le=1, description="smallest share of the image's area to erase, in steps of 1/1024"
    )
    area_max: float = Field(0.2, ge=0.001, le=1, description="largest share, in steps of 1/1024")
    aspect_max: float = Field(
        10 / 3, ge=1, le=16, description="longest shape either way: width / height lies in 1/aspect_max..aspect_max"
    )
    fill: Literal["noise"] | Annotated[int, Field(ge=0, le=255)] = Field(
        0, description="value of erased pixels, or noise: every value drawn anew"
    )

    @model_validator(mode="after")
    def _is_a_range(self) -> Params:
        if self.area_min > self.area_max:
            raise ValueError(f"area_min is {self.area_min:g}, more than area_max = {self.area_max:g}")
        return self

    def build(self, sample_shape: tuple[int, ...]) -> Transform:
        """For samples [channels, height, width]; BadInputError for others."""
        from components.transforms._boxes import BoxSizes
        from components.transforms._chances import Chance
        from components.transforms._erasing import Erasing

        _, height, width = image_shape("erasing", sample_shape)
        first, last = (max(1, round(area * AREAS_PER_UNIT)) for area in (self.area_min, self.area_max))
        sizes = BoxSizes(height, width, first, last, self.aspect_max)
        return Erasing(sizes, Chance.of(self.probability), self.fill)
