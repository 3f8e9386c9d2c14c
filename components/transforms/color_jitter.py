"""Change brightness, contrast, saturation and hue of an image by chance."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from components.contracts import Transform, TransformParams
from components.errors import BadInputError
from components.transforms._shapes import image_shape

STEPS_PER_UNIT = 256
COLOURS = 3


class Params(TransformParams):
    """One linear map of the channels for all four together, clamped once at its end."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "color_jitter", "brightness": 0.3, "contrast": 0.3},
                {"name": "color_jitter", "brightness": 0.2, "contrast": 0.2, "saturation": 0.4, "hue_degrees": 20},
            ]
        }
    )
    name: Literal["color_jitter"] = "color_jitter"
    brightness: float = Field(
        0.0, ge=0, le=1, description="largest relative change of all values either way, in steps of 1/256"
    )
    contrast: float = Field(
        0.0, ge=0, le=1, description="largest relative change of the distance from the image's mean grey, likewise"
    )
    saturation: float = Field(
        0.0,
        ge=0,
        le=1,
        description="largest relative change of the distance from each pixel's grey, likewise; needs RGB",
    )
    hue_degrees: int = Field(
        0, ge=0, le=180, description="largest turn of the colours about the grey axis either way; needs RGB"
    )

    @model_validator(mode="after")
    def _does_something(self) -> Params:
        if not (self.brightness or self.contrast or self.saturation or self.hue_degrees):
            raise ValueError("does nothing: set brightness, contrast, saturation or hue_degrees")
        for field in ("brightness", "contrast", "saturation"):
            if 0 < getattr(self, field) < 1 / STEPS_PER_UNIT:
                raise ValueError(f"{field} is {getattr(self, field):g}, less than one step of {1 / STEPS_PER_UNIT:g}")
        return self

    def build(self, sample_shape: tuple[int, ...]) -> Transform:
        """For samples [channels, height, width]; BadInputError for others, or colours asked of images without."""
        from components.transforms._colour import Jitter

        channels, _, _ = image_shape("color_jitter", sample_shape)
        if (self.saturation or self.hue_degrees) and channels != COLOURS:
            raise BadInputError(
                f"color_jitter.saturation and hue_degrees need RGB images, and samples have {channels} "
                f"channel{'s' * (channels > 1)}: set both to 0 and keep brightness and contrast"
            )
        brightness, contrast, saturation = (
            int(amount * STEPS_PER_UNIT) for amount in (self.brightness, self.contrast, self.saturation)
        )
        return Jitter(brightness, contrast, saturation, self.hue_degrees)
