"""Where the words of a text are, and texts without some of them: by sorting and sums of whole numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from components.errors import BadInputError

SPACES = (9, 10, 11, 12, 13, 32)
"""White space of ASCII; what stands between two of these is a word."""
SPACE = 32


def text_shape(transform: str, sample_shape: tuple[int, ...]) -> int:
    """L of samples [L]; BadInputError where they are no texts."""
    if len(sample_shape) != 1:
        raise BadInputError(
            f"transform {transform} needs texts (bytes [L], filled up with zeros), and samples are {list(sample_shape)}"
        )
    return sample_shape[0]


def word_numbers(samples: Tensor) -> Tensor:
    """uint8 [B, L] -> int64 [B, L]: 0, 1, ... on the bytes of each word, -1 between and behind them."""
    inside = samples != 0
    for space in SPACES:
        inside = inside & (samples != space)
    before = torch.cat((torch.zeros_like(inside[:, :1]), inside[:, :-1]), dim=1)
    numbers = (inside & ~before).to(torch.int64).cumsum(dim=1) - 1
    return torch.where(inside, numbers, -1)


def count_words(numbers: Tensor) -> Tensor:
    """int64 [B, L] of word_numbers -> int64 [B]."""
    if not numbers.shape[1]:
        return numbers.new_zeros(len(numbers))
    return numbers.amax(dim=1) + 1


def without(samples: Tensor, gone: Tensor) -> Tensor:
    """The texts uint8 [B, L] without the bytes that are *gone*, bool [B, L]: the others move up, zeros stay behind."""
    kept = ~gone & (samples != 0)
    order = (~kept).to(torch.uint8).sort(dim=1, stable=True).indices
    return torch.where(kept, samples, 0).gather(1, order)


def with_space_behind(chosen: Tensor, numbers: Tensor) -> Tensor:
    """The bytes of *chosen* words, and whatever stands between them and the next word; bool [B, L] -> the same."""
    place = torch.arange(numbers.shape[1], device=numbers.device).expand_as(numbers)
    last = torch.where(numbers >= 0, place, -1).cummax(dim=1).values
    before = chosen.gather(1, last.clamp(min=0)) & (last >= 0)
    return chosen | ((numbers < 0) & before)
