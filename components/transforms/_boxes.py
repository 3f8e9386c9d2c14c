"""Sizes and places of boxes in a picture, drawn in integers: areas even, shapes even in the logarithm of their ratio."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from components.contracts import Draws

AREAS_PER_UNIT = 1024
SIZE_BITS = 8
"""Sizes are whole numbers of 1/256 pixel."""
SIDE_BITS = 16
ROOT_BITS = 16
SHAPES_EACH_WAY = 64
PLACES = 1 << 24


@lru_cache(maxsize=32)
def side_table(num_pixels: int, first: int, last: int) -> Tensor:
    """int64: the side of a square of first..last 1024ths of *num_pixels*, in 1 / 2^16 pixel, rounded down."""
    areas = range(first, last + 1)
    return torch.tensor([math.isqrt((area * num_pixels << (2 * SIDE_BITS)) // AREAS_PER_UNIT) for area in areas])


@lru_cache(maxsize=32)
def root_table(aspect_max: float) -> Tensor:
    """int64 [129]: square roots of ratios from 1 / aspect_max to aspect_max, even in the logarithm, in 1 / 2^16.

    Rounded from the host's double precision, where an error of the last bit cannot reach the 16th.
    """
    steps = [step / SHAPES_EACH_WAY for step in range(-SHAPES_EACH_WAY, SHAPES_EACH_WAY + 1)]
    return torch.tensor([round(math.exp(0.5 * step * math.log(aspect_max)) * (1 << ROOT_BITS)) for step in steps])


@dataclass(frozen=True, slots=True)
class BoxSizes:
    """Heights and widths of boxes in pictures of H x W pixels."""

    height: int
    width: int
    first_area: int
    """Smallest share of the picture, in 1/1024."""
    last_area: int
    aspect_max: float

    def draw(self, draws: Draws, *, area_word: int, shape_word: int) -> tuple[Tensor, Tensor]:
        """Heights and widths, int64 [B] each, in 1/256 pixel; no longer than the picture, where a long box is cut."""
        area = draws.integers(0, self.last_area - self.first_area, word=area_word)
        side = side_table(self.height * self.width, self.first_area, self.last_area).to(area.device)[area]
        if self.aspect_max == 1:
            return self._cut(side << ROOT_BITS, self.height), self._cut(side << ROOT_BITS, self.width)
        shape = draws.integers(0, 2 * SHAPES_EACH_WAY, word=shape_word)
        roots = root_table(self.aspect_max).to(area.device)
        height, width = side * roots[2 * SHAPES_EACH_WAY - shape], side * roots[shape]
        return self._cut(height, self.height), self._cut(width, self.width)

    def _cut(self, size: Tensor, length: int) -> Tensor:
        drop = SIDE_BITS + ROOT_BITS - SIZE_BITS
        return ((size + (1 << (drop - 1))) >> drop).clamp(max=length << SIZE_BITS)


def place(room: Tensor, draws: Draws, *, word: int) -> Tensor:
    """Uniform in 0..room inclusive, int64 [B] -> int64 [B]: where a box that leaves so much room begins."""
    return (draws.integers(0, PLACES - 1, word=word) * (room + 1)) >> 24


def inside(starts: tuple[Tensor, Tensor], ends: tuple[Tensor, Tensor], shape: tuple[int, int]) -> Tensor:
    """Which pixels lie in the box from *starts* (y, x) up to, not including, *ends*; [B] each -> bool [B, 1, H, W]."""
    rows, columns = (_between(start, end, length) for start, end, length in zip(starts, ends, shape, strict=True))
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def _between(start: Tensor, end: Tensor, length: int) -> Tensor:
    positions = torch.arange(length, device=start.device)
    return (positions >= start[:, None]) & (positions < end[:, None])
