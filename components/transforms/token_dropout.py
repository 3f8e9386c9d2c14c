"""Leave words of a text out, each by a draw of its own (Iyyer et al. 2015)."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from components.contracts import Transform, TransformParams


class Params(TransformParams):
    """Words stand between white space; one, drawn evenly, always stays, so that no text becomes empty."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"name": "token_dropout", "probability": 0.4}, {"name": "token_dropout", "max_words": 3}]
        }
    )
    name: Literal["token_dropout"] = "token_dropout"
    probability: float = Field(0.1, gt=0, lt=1, description="that a word goes, in steps of 1/65536")
    max_words: int = Field(256, ge=1, le=4096, description="the words of a text that may go; those behind stay")

    def build(self, sample_shape: tuple[int, ...]) -> Transform:
        """For texts [L]; BadInputError for others."""
        from components.transforms._chances import Chance
        from components.transforms._dropping import TokenDropout
        from components.transforms._words import text_shape

        text_shape("token_dropout", sample_shape)
        return TokenDropout(Chance.of(self.probability), self.max_words)
