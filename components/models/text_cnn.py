"""A convolutional network over the words or the bytes of a text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from components.contracts import DataSpec, ModelParams

if TYPE_CHECKING:
    from torch import nn


class Params(ModelParams):
    """Small filters over neighbouring words see phrases; over bytes, parts of words in any language."""

    name: Literal["text_cnn"] = "text_cnn"
    reads: Literal["words", "bytes"] = Field("words", description="what a filter passes over; words are hashed")
    num_buckets: int = Field(
        2048, ge=2, le=2**24, description="vectors that words share, where it reads words; the first stands for none"
    )
    max_words: int = Field(64, ge=1, description="words of a text that count, where it reads words")
    width: int = Field(24, ge=1, description="length of a word's or byte's vector")
    filters: int = Field(48, ge=1, description="filters of each size")
    sizes: tuple[Annotated[int, Field(ge=1, le=15)], ...] = Field(
        (1, 2, 3), min_length=1, description="neighbouring words or bytes that a filter sees"
    )
    pooling: Literal["max", "mean"] = Field("max", description="of each filter over the text")
    dropout: float = Field(
        0.2, ge=0, lt=1, description="share of the features dropped before the last layer in training"
    )

    def build(self, data: DataSpec) -> nn.Module:
        """BadInputError where samples are no texts."""
        from components.models._text_cnn import TextCNN

        return TextCNN(data, **self.model_dump(exclude={"name"}))
