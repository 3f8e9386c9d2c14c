"""Paints over a box of a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from components.contracts import Draws
from components.transforms._boxes import SIZE_BITS, BoxSizes, inside, place
from components.transforms._chances import Chance

AREA, SHAPE, TOP, LEFT, HAPPENS = range(5)


@dataclass(frozen=True, slots=True)
class Erasing:
    """A box of whole pixels, filled; a `contracts.Transform`."""

    sizes: BoxSizes
    chance: Chance
    fill: int | Literal["noise"]

    def __call__(self, samples: Tensor, draws: Draws) -> Tensor:
        """uint8 [B, channels, H, W] -> the same."""
        return torch.where(self._box(draws), self._filling(samples, draws), samples)

    def _box(self, draws: Draws) -> Tensor:
        """Which pixels go; [B, 1, H, W] bool."""
        shape = (self.sizes.height, self.sizes.width)
        height, width = (_whole(size) for size in self.sizes.draw(draws, area_word=AREA, shape_word=SHAPE))
        top, left = place(shape[0] - height, draws, word=TOP), place(shape[1] - width, draws, word=LEFT)
        if not self.chance.always:
            height = height * self.chance.draw(draws, word=HAPPENS)
        return inside((top, left), (top + height, left + width), shape)

    def _filling(self, samples: Tensor, draws: Draws) -> Tensor:
        if self.fill != "noise":
            return samples.new_full((), self.fill)
        return draws.noise(math.prod(samples.shape[1:])).view_as(samples)


def _whole(size: Tensor) -> Tensor:
    """From 1/256 pixel to pixels: the nearest number, and one at least."""
    return ((size + (1 << (SIZE_BITS - 1))) >> SIZE_BITS).clamp(min=1)
