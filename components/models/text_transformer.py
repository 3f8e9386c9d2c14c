"""A small transformer whose tokenizer is trained on the training texts, or loaded from a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from components.contracts import DataSpec, ModelParams
from components.errors import BadInputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

LIBRARIES = ("tokenizers",)


class Params(ModelParams):
    """Tokens are pairs of bytes merged by their count (BPE); the mean of their last states goes into a linear layer."""

    located: ClassVar[frozenset[str]] = frozenset({"tokenizer_file"})

    name: Literal["text_transformer"] = "text_transformer"
    tokenizer_file: Path | None = Field(
        None, description="a tokenizer.json to use instead of training one; it must know the token [PAD]"
    )
    vocab_size: int = Field(2000, ge=300, description="most tokens that a trained tokenizer knows")
    lowercase: bool = Field(True, description="whether a trained tokenizer takes capitals for small letters")
    max_tokens: int = Field(64, ge=2, le=8192, description="tokens of a text that count")
    width: int = Field(64, ge=1, description="length of a token's vector")
    depth: int = Field(2, ge=1, description="blocks of attention")
    heads: int = Field(4, ge=1, description="of each attention; they share the width")
    feed_forward: int = Field(128, ge=1, description="width of the layer in each block")
    dropout: float = Field(0.1, ge=0, lt=1, description="share dropped in training, of vectors, attention and features")

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Params:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} cannot be shared by {self.heads} heads: make it a multiple")
        return self

    def files(self) -> Mapping[str, Path]:
        """BadInputError where the file is not there."""
        if self.tokenizer_file is None:
            return {}
        if not self.tokenizer_file.is_file():
            raise BadInputError(f"tokenizer_file {self.tokenizer_file} does not exist (looked from {Path.cwd()})")
        return {"tokenizer.json": self.tokenizer_file}

    def learn(self, samples: NDArray[np.uint8]) -> Mapping[str, str]:
        """The tokenizer, trained on these texts [N, L] unless there is a file."""
        from components.models._tokens import fixed_length, read_tokenizer
        from components.models._vocabulary import PADDING, trained_tokenizer

        if file := self.files().get("tokenizer.json"):
            found = read_tokenizer(file.read_text(encoding="utf-8"))
        else:
            found = trained_tokenizer(samples, vocab_size=self.vocab_size, lowercase=self.lowercase)
        return {"tokenizer": fixed_length(found, self.max_tokens, PADDING)}

    def build(self, data: DataSpec) -> nn.Module:
        """BadInputError where samples are no texts, or no tokenizer was learnt."""
        from components.models._text_transformer import TextTransformer
        from components.models._texts import max_bytes

        max_bytes(data, self.name)
        if "tokenizer" not in data.learned:
            raise BadInputError("model 'text_transformer' is built with a tokenizer, which `learn` makes of the texts")
        sizes = {name: getattr(self, name) for name in ("width", "depth", "heads", "feed_forward", "dropout")}
        return TextTransformer(data, tokenizer=data.learned["tokenizer"], **sizes)
