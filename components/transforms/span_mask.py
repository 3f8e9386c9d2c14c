"""Hide neighbouring words of a text behind a mask, or take them out (Joshi et al. 2020; Wei and Zou 2019)."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, field_validator

from components.contracts import Transform, TransformParams


class Params(TransformParams):
    """Length and place of the span are drawn evenly; one word at least stays as it is."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "span_mask", "share_max": 0.5},
                {"name": "span_mask", "share_max": 0.3, "mask": "", "probability": 0.9},
            ]
        }
    )
    name: Literal["span_mask"] = "span_mask"
    probability: float = Field(1.0, gt=0, le=1, description="share of the views with a span, in steps of 1/65536")
    share_max: float = Field(
        0.25, gt=0, lt=1, description="longest span, as a share of the text's words; one word where that is less"
    )
    mask: str = Field("_", max_length=16, description="what each word becomes, cut to the word's length; '': they go")

    @field_validator("mask")
    @classmethod
    def _is_a_word(cls, mask: str) -> str:
        if not mask.isascii() or not all(" " < character <= "~" for character in mask):
            raise ValueError("must be printable ASCII without spaces, so that a mask is one word and valid UTF-8")
        return mask

    def build(self, sample_shape: tuple[int, ...]) -> Transform:
        """For texts [L]; BadInputError for others."""
        from components.transforms._chances import Chance
        from components.transforms._dropping import SpanMask
        from components.transforms._words import text_shape

        text_shape("span_mask", sample_shape)
        return SpanMask(Chance.of(self.probability), self.share_max, self.mask.encode())
