"""Takes words out of a text, or hides them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from components.contracts import Draws
from components.transforms._chances import CHANCES, Chance
from components.transforms._words import count_words, with_space_behind, without, word_numbers

KEPT, FIRST_WORD = 0, 1
HAPPENS, LENGTH, START = range(3)
FRACTION_BITS = 16


@dataclass(frozen=True, slots=True)
class TokenDropout:
    """Each word goes by a draw of its own, but for one that always stays; a `contracts.Transform`."""

    chance: Chance
    max_words: int
    """Words beyond that many stay."""

    def __call__(self, samples: Tensor, draws: Draws) -> Tensor:
        """uint8 [B, L] -> the same."""
        numbers = word_numbers(samples)
        dropped = self._dropped(count_words(numbers), draws)
        chosen = _of_words(dropped, numbers)
        return without(samples, with_space_behind(chosen, numbers))

    def _dropped(self, counts: Tensor, draws: Draws) -> Tensor:
        """bool [B, W]: which words go, for as many as the longest text has."""
        longest = min(int(counts.max()) if len(counts) else 0, self.max_words)
        goes = [draws.integers(0, CHANCES - 1, word=FIRST_WORD + n) < self.chance.wins for n in range(longest)]
        dropped = torch.stack(goes, dim=1) if goes else counts.new_zeros((len(counts), 0), dtype=torch.bool)
        kept = draws.integers(0, CHANCES - 1, word=KEPT) * counts.clamp(max=self.max_words) // CHANCES
        return dropped & (torch.arange(longest, device=counts.device) != kept.unsqueeze(1))


@dataclass(frozen=True, slots=True)
class SpanMask:
    """Neighbouring words become the mask, one for each; one word at least stays. A `contracts.Transform`."""

    chance: Chance
    share_max: float
    mask: bytes
    """What a masked word becomes, cut to the word's own length; empty: the span is taken out."""

    def __call__(self, samples: Tensor, draws: Draws) -> Tensor:
        """uint8 [B, L] -> the same."""
        numbers = word_numbers(samples)
        first, end = self._span(count_words(numbers), draws)
        chosen = (numbers >= first.unsqueeze(1)) & (numbers < end.unsqueeze(1))
        if not self.mask:
            return without(samples, with_space_behind(chosen, numbers))
        return self._masked(samples, chosen, numbers)

    def _span(self, counts: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """First word and the one behind the last, int64 [B] each; equal where nothing is masked."""
        share = round(self.share_max * (1 << FRACTION_BITS))
        longest = torch.minimum((counts * share) >> FRACTION_BITS, counts - 1).clamp(min=0)
        # A text of two words or three has one to lose, whatever a small share of that is.
        longest = torch.where(counts > 1, longest.clamp(min=1), longest)
        length = (draws.integers(0, CHANCES - 1, word=LENGTH) * longest // CHANCES) + 1
        length = torch.minimum(length, longest)
        if not self.chance.always:
            length = length * self.chance.draw(draws, word=HAPPENS)
        first = draws.integers(0, CHANCES - 1, word=START) * (counts - length + 1) // CHANCES
        return first, first + length

    def _masked(self, samples: Tensor, chosen: Tensor, numbers: Tensor) -> Tensor:
        """Each chosen word's bytes give way to the mask's; bytes of it that are too many go."""
        place = torch.arange(numbers.shape[1], device=numbers.device).expand_as(numbers)
        starts = chosen & (torch.cat((numbers.new_full((len(numbers), 1), -1), numbers[:, :-1]), dim=1) != numbers)
        within = place - torch.where(starts, place, -1).cummax(dim=1).values
        mask = torch.tensor(list(self.mask), dtype=torch.uint8, device=samples.device)
        written = torch.where(chosen, mask[within.clamp(0, len(self.mask) - 1)], samples)
        return without(written, chosen & (within >= len(self.mask)))


def _of_words(which: Tensor, numbers: Tensor) -> Tensor:
    """bool [B, W] of words -> bool [B, L] of their bytes; words beyond W are not among them."""
    if not which.shape[1]:
        return torch.zeros_like(numbers, dtype=torch.bool)
    known = (numbers >= 0) & (numbers < which.shape[1])
    return which.gather(1, numbers.clamp(0, which.shape[1] - 1)) & known
