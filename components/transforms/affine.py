"""Shift, flip, rotation and scale of an image, composed into one map and resampled once."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from components.contracts import Transform, TransformParams
from components.errors import BadInputError
from components.transforms._shapes import image_shape

ANGLES_PER_DEGREE = 64
SCALES_PER_UNIT = 1024


class Params(TransformParams):
    """Each amount is drawn evenly between its two extremes; a shift is the field's pad-and-crop."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "affine", "shift_pixels": 2, "flip_horizontal": True},
                {"name": "affine", "shift_pixels": 1, "rotate_degrees": 10, "scale": 0.1, "fill": "edge"},
            ]
        }
    )
    name: Literal["affine"] = "affine"
    shift_pixels: int = Field(0, ge=0, le=4096, description="largest shift along each axis, in whole pixels")
    flip_horizontal: bool = Field(False, description="mirror every second view, drawn by chance")
    rotate_degrees: float = Field(0.0, ge=0, le=180, description="largest rotation either way, in steps of 1/64 degree")
    scale: float = Field(
        0.0, ge=0, le=0.9, description="largest relative change of size either way, in steps of 1/1024"
    )
    fill: Literal["edge"] | Annotated[int, Field(ge=0, le=255)] = Field(
        0, description="value of pixels from outside, or edge: repeat the border"
    )

    @model_validator(mode="after")
    def _does_something(self) -> Params:
        if not (self.shift_pixels or self.flip_horizontal or self.rotate_degrees or self.scale):
            raise ValueError("does nothing: set shift_pixels, flip_horizontal, rotate_degrees or scale")
        for field, smallest in (("rotate_degrees", 1 / ANGLES_PER_DEGREE), ("scale", 1 / SCALES_PER_UNIT)):
            if 0 < getattr(self, field) < smallest:
                raise ValueError(f"{field} is {getattr(self, field):g}, less than one step of {smallest:g}")
        return self

    def build(self, sample_shape: tuple[int, ...]) -> Transform:
        """For samples [channels, height, width]; BadInputError for others, or a shift out of the picture."""
        from components.transforms._resampling import Affine

        self._check(sample_shape)
        return Affine(
            max_shift_pixels=self.shift_pixels,
            flip=self.flip_horizontal,
            max_angle_index=int(self.rotate_degrees * ANGLES_PER_DEGREE),
            max_scale_index=int(self.scale * SCALES_PER_UNIT),
            fill=self.fill,
        )

    def _check(self, sample_shape: tuple[int, ...]) -> None:
        _, height, width = image_shape("affine", sample_shape)
        if self.shift_pixels >= min(height, width):
            raise BadInputError(
                f"affine.shift_pixels is {self.shift_pixels}, which can push a whole picture of "
                f"{height} x {width} pixels out of sight; at most {min(height, width) - 1}"
            )
