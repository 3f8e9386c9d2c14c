"""A bag of hashed n-grams of words and characters: the smallest and fastest model of a text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from components.contracts import DataSpec, ModelParams

if TYPE_CHECKING:
    from torch import nn


class Params(ModelParams):
    """Every n-gram is hashed into a bucket with a vector of its own; the order of a text counts within n-grams only."""

    name: Literal["ngram_bag"] = "ngram_bag"
    num_buckets: int = Field(
        4096, ge=2, le=2**24, description="vectors that n-grams share; the first one stands for none"
    )
    width: int = Field(16, ge=1, description="length of an n-gram's vector")
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field((), description="width of each layer between")
    words: tuple[Literal[1, 2], ...] = Field((1, 2), description="n of the n-grams of words")
    characters: tuple[Annotated[int, Field(ge=2, le=8)], ...] = Field(
        (), description="n of the n-grams of characters (bytes) within words, their borders included"
    )
    max_words: int = Field(128, ge=1, description="words of a text that count")
    ngram_dropout: float = Field(0.0, ge=0, lt=1, description="share of a text's n-grams that are dropped in training")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="share of the features dropped before the last layer in training"
    )

    @model_validator(mode="after")
    def _some_ngrams(self) -> Params:
        if not self.words and not self.characters:
            raise ValueError("words and characters are both empty: name the n of at least one kind of n-gram")
        return self

    def build(self, data: DataSpec) -> nn.Module:
        """BadInputError where samples are no texts."""
        from components.models._ngram_bag import NgramBag

        return NgramBag(data, **self.model_dump(exclude={"name"}))
