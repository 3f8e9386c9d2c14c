"""Texts made into tokens by the library `tokenizers`, whose JSON says everything: nothing else need be kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from components.errors import BadInputError
from components.models._texts import texts_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Tokens:
    """uint8 [B, L] -> int64 [B, T]; T and the padding are those of the tokenizer."""

    def __init__(self, tokenizer: str) -> None:
        self.tokenizer = read_tokenizer(tokenizer)
        padding = self.tokenizer.padding
        if not padding or padding["length"] is None:
            raise BadInputError(
                "a tokenizer must pad to a fixed length, and this one does not: set padding in its JSON"
            )
        self.pad_id: int = padding["pad_id"]
        self.length: int = padding["length"]

    def __call__(self, samples: Tensor) -> Tensor:
        """On the device of the samples."""
        encoded = self.tokenizer.encode_batch_fast(texts_of(samples))
        ids = torch.tensor([each.ids for each in encoded], dtype=torch.int64).view(-1, self.length)
        return ids.to(samples.device)


class TokenizedProgram(nn.Module):
    """uint8 [B, L] -> logits [B, C]: a tokenizer, and a program of tokens; `contracts.Tokenized`."""

    def __init__(self, program: nn.Module, tokenizer: str) -> None:
        super().__init__()
        self.core, self.tokenizer, self.tokens = program, tokenizer, Tokens(tokenizer)

    def forward(self, samples: Tensor) -> Tensor:
        logits: Tensor = self.core(self.tokens(samples))
        return logits


def with_first(known: Tensor) -> Tensor:
    """bool [B, T], the first place always: attention over nothing is no number."""
    return torch.cat((torch.ones_like(known[:, :1]), known[:, 1:]), dim=1)


def read_tokenizer(text: str) -> Tokenizer:
    """BadInputError for what is no tokenizer's JSON."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # the library raises plain exceptions
        raise BadInputError(f"not the JSON of a tokenizer: {error}") from error


def fixed_length(tokenizer: Tokenizer, length: int, pad_token: str) -> str:
    """The JSON of *tokenizer*, cutting and filling every text to *length* tokens."""
    pad_id = tokenizer.token_to_id(pad_token)
    if pad_id is None:
        raise BadInputError(f"the tokenizer knows no token {pad_token!r} to fill texts up with")
    tokenizer.enable_truncation(max_length=length)
    tokenizer.enable_padding(length=length, pad_id=pad_id, pad_token=pad_token)
    text: str = tokenizer.to_str()
    return text
