"""Makes one picture of two, in integers, and says how much of it is the first one's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from components.contracts import Draws
from components.transforms._boxes import inside
from components.transforms._chances import LEVELS, SHARE_BITS, SHARES, Chance, share_table

SHARE, MIXUP_HAPPENS = 1, 2
MIDDLE_Y, MIDDLE_X, CUTMIX_HAPPENS = 2, 3, 4
"""Words of the draws; word 0 is the partner's."""


@dataclass(frozen=True, slots=True)
class Mixup:
    """Both samples blended all over; a `contracts.Mixing`."""

    beta: float
    chance: Chance

    def __call__(self, samples: Tensor, partners: Tensor, draws: Draws) -> Tensor:
        """(n * sample + (256 - n) * partner) / 256; uint8 [B, *S] twice, rounded to nearest, or float32 -> the same."""
        own = _drawn_share(self.beta, self.chance, draws, MIXUP_HAPPENS).to(torch.int32)
        own = own.view(-1, *[1] * (samples.ndim - 1))
        if samples.is_floating_point():
            share = own / SHARES
            return samples * share + partners * (1 - share)
        theirs = partners.to(torch.int32)
        blended = samples.to(torch.int32).sub_(theirs).mul_(own).add_(theirs.mul_(SHARES)).add_(SHARES >> 1)
        return blended.bitwise_right_shift_(SHARE_BITS).to(torch.uint8)

    def shares(self, draws: Draws) -> Tensor:
        """[B] float32, exact."""
        return _drawn_share(self.beta, self.chance, draws, MIXUP_HAPPENS).to(torch.float32) / SHARES


@dataclass(frozen=True, slots=True)
class Cutmix:
    """A box of the partner on the sample; a `contracts.Mixing`."""

    height: int
    width: int
    beta: float
    chance: Chance

    def __call__(self, samples: Tensor, partners: Tensor, draws: Draws) -> Tensor:
        """uint8 [B, channels, H, W] twice -> the same."""
        starts, ends = self._box(draws)
        return torch.where(inside(starts, ends, (self.height, self.width)), partners, samples)

    def shares(self, draws: Draws) -> Tensor:
        """[B] float32: the pixels outside the box over all pixels, rounded once."""
        (top, left), (bottom, right) = self._box(draws)
        pixels = self.height * self.width
        return (pixels - (bottom - top) * (right - left)).to(torch.float32) / pixels

    def _box(self, draws: Draws) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Top left corner, and bottom right behind the last pixel, cut at the border; int64 [B] each."""
        share = _drawn_share(self.beta, self.chance, draws, CUTMIX_HAPPENS)
        rows = _span(self.height, share, draws.integers(0, self.height - 1, word=MIDDLE_Y))
        columns = _span(self.width, share, draws.integers(0, self.width - 1, word=MIDDLE_X))
        return (rows[0], columns[0]), (rows[1], columns[1])


def _drawn_share(beta: float, chance: Chance, draws: Draws, happens_word: int) -> Tensor:
    """[B] int64, the sample's own part in 1/256; the whole where nothing is mixed."""
    level = draws.integers(0, LEVELS - 1, word=SHARE)
    share = share_table(beta).to(level.device).index_select(0, level)
    return share if chance.always else torch.where(chance.draw(draws, word=happens_word), share, SHARES)


@lru_cache(maxsize=32)
def _cut_table(length: int) -> Tensor:
    """int64 [257]: the box's side for each share kept, length * sqrt(1 - share) to the nearest pixel."""
    squares = [4 * length * length * (SHARES - share) // SHARES for share in range(SHARES + 1)]
    return torch.tensor([(math.isqrt(square) + 1) // 2 for square in squares])


def _span(length: int, share: Tensor, middle: Tensor) -> tuple[Tensor, Tensor]:
    """Start and end of the box along one side."""
    side = _cut_table(length).to(share.device).index_select(0, share)
    start = middle - (side >> 1)
    return start.clamp(min=0), (start + side).clamp(max=length)
