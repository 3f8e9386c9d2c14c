"""Cut a random box out of an image and blow it up to the image's own size (Szegedy et al. 2015)."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from components.contracts import Transform, TransformParams
from components.transforms._shapes import image_shape

AREAS_PER_UNIT = 1024


class Params(TransformParams):
    """Area drawn evenly, shape evenly in its logarithm, place evenly; sizes and places in 1/256 pixel, bilinear."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "resized_crop", "area_min": 0.6},
                {"name": "resized_crop", "area_min": 0.3, "area_max": 0.9, "aspect_max": 2},
            ]
        }
    )
    name: Literal["resized_crop"] = "resized_crop"
    area_min: float = Field(
        0.5, ge=0.01, le=1, description="smallest share of the image's area that the box keeps, in steps of 1/1024"
    )
    area_max: float = Field(1.0, ge=0.01, le=1, description="largest share, in steps of 1/1024")
    aspect_max: float = Field(
        4 / 3, ge=1, le=4, description="longest shape either way: width / height lies in 1/aspect_max..aspect_max"
    )

    @model_validator(mode="after")
    def _does_something(self) -> Params:
        if self.area_min > self.area_max:
            raise ValueError(f"area_min is {self.area_min:g}, more than area_max = {self.area_max:g}")
        if self.area_min == 1 and self.aspect_max == 1:
            raise ValueError("does nothing: lower area_min or raise aspect_max")
        return self

    def build(self, sample_shape: tuple[int, ...]) -> Transform:
        """For samples [channels, height, width]; BadInputError for others."""
        from components.transforms._boxes import BoxSizes
        from components.transforms._resampling import ResizedCrop

        _, height, width = image_shape("resized_crop", sample_shape)
        first, last = (round(area * AREAS_PER_UNIT) for area in (self.area_min, self.area_max))
        return ResizedCrop(BoxSizes(height, width, first, last, self.aspect_max))
