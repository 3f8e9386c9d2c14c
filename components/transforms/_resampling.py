"""Moves pixels by integer arithmetic alone, so that every machine, batch and thread count gives the same bits.

Positions are whole numbers of 1 / 2^17 pixel, counted from the picture's first pixel; matrix entries are whole
numbers of 1 / 2^16; bilinear weights are whole numbers of 1 / 256.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from components.contracts import Draws
from components.transforms._boxes import BoxSizes, place

MATRIX_BITS = 16
POSITION_BITS = MATRIX_BITS + 1
WEIGHT_BITS = 8
WHOLE_WEIGHT = 1 << WEIGHT_BITS
ONE = 1 << MATRIX_BITS
ANGLES_PER_DEGREE = 64
SCALES_PER_UNIT = 1024
BORDER = 2
"""Pixels around the picture, so that the four neighbours of a clamped position always exist."""
Fill = int | Literal["edge"]
FLIP, SHIFT_X, SHIFT_Y, ANGLE, SCALE = range(5)
AREA, SHAPE, TOP, LEFT = range(4)


@lru_cache(maxsize=32)
def turn_table(max_index: int) -> Tensor:
    """int64 [2 * max_index + 1, 2]: cos and sin of -max_index..max_index steps of 1/64 degree, in 1 / 2^16.

    Rounded from the host's double precision, where an error of the last bit cannot reach the 16th.
    """
    angles = [math.radians(index / ANGLES_PER_DEGREE) for index in range(-max_index, max_index + 1)]
    return torch.tensor([[round(math.cos(angle) * ONE), round(math.sin(angle) * ONE)] for angle in angles])


@lru_cache(maxsize=32)
def shrink_table(max_index: int) -> Tensor:
    """int64 [2 * max_index + 1]: 1 / (1 + index / 1024) in 1 / 2^16, rounded to nearest in integers."""
    wholes = [SCALES_PER_UNIT + index for index in range(-max_index, max_index + 1)]
    return torch.tensor([(2 * ONE * SCALES_PER_UNIT + whole) // (2 * whole) for whole in wholes])


@dataclass(frozen=True, slots=True)
class Motion:
    """How B pictures move: turned and scaled about their centre, then shifted; flipped before all that."""

    side: Tensor
    """int64 [B]: 1, or -1 to flip."""
    shift_x: Tensor
    """int64 [B], in pixels to the right."""
    shift_y: Tensor
    """int64 [B], in pixels down."""
    turn: Tensor | None = None
    """int64 [B, 2]: cos and sin of the angle (clockwise as seen) over the scale, in 1 / 2^16; None: neither."""

    def to(self, dtype: torch.dtype) -> Motion:
        turn = None if self.turn is None else self.turn.to(dtype)
        return Motion(self.side.to(dtype), self.shift_x.to(dtype), self.shift_y.to(dtype), turn)


@dataclass(frozen=True, slots=True)
class Affine:
    """Shift, flip, rotation and scale about the centre, as one inverse map; a `contracts.Transform`."""

    max_shift_pixels: int
    flip: bool
    max_angle_index: int
    max_scale_index: int
    fill: Fill

    def __call__(self, samples: Tensor, draws: Draws) -> Tensor:
        """uint8 [B, channels, H, W] -> the same."""
        motion = self._motion(draws)
        if motion.turn is None:
            return shifted(samples, motion, self.fill)
        return resampled(samples, motion.to(self._narrowest(max(samples.shape[2:]))), self.fill)

    def _motion(self, draws: Draws) -> Motion:
        largest = self.max_shift_pixels
        return Motion(
            side=1 - 2 * draws.integers(0, int(self.flip), word=FLIP),
            shift_x=draws.integers(-largest, largest, word=SHIFT_X),
            shift_y=draws.integers(-largest, largest, word=SHIFT_Y),
            turn=self._turn(draws) if self.max_angle_index or self.max_scale_index else None,
        )

    def _narrowest(self, length: int) -> torch.dtype:
        """An integer type that no position overflows; int32 is twice as fast."""
        largest_entry = int(shrink_table(self.max_scale_index).max())
        farthest = 2 * largest_entry * (length + 2 * self.max_shift_pixels) + (length << MATRIX_BITS)
        return torch.int32 if farthest < 2**31 else torch.int64

    def _turn(self, draws: Draws) -> Tensor:
        angle = draws.integers(0, 2 * self.max_angle_index, word=ANGLE)
        scale = draws.integers(0, 2 * self.max_scale_index, word=SCALE)
        turn = turn_table(self.max_angle_index).to(angle.device)[angle]
        shrink = shrink_table(self.max_scale_index).to(angle.device)[scale]
        return (turn * shrink[:, None] + (ONE >> 1)) >> MATRIX_BITS


@dataclass(frozen=True, slots=True)
class ResizedCrop:
    """A box of the picture, blown up to the whole; a `contracts.Transform`."""

    sizes: BoxSizes

    def __call__(self, samples: Tensor, draws: Draws) -> Tensor:
        """uint8 [B, channels, H, W] -> the same."""
        height, width = self.sizes.draw(draws, area_word=AREA, shape_word=SHAPE)
        top = place((self.sizes.height << WEIGHT_BITS) - height, draws, word=TOP)
        left = place((self.sizes.width << WEIGHT_BITS) - width, draws, word=LEFT)
        return zoomed(samples, (top, left), (height, width))


def shifted(samples: Tensor, motion: Motion, fill: Fill) -> Tensor:
    """Whole-pixel shift and flip: one gather, the same bits as `resampled` with a turn of nothing.

    uint8 [B, channels, H, W] -> the same.
    """
    height, width = samples.shape[2:]
    x = (motion.side[:, None] * _from_centre(width, motion.shift_x) + (width - 1)) >> 1
    y = (_from_centre(height, motion.shift_y) + (height - 1)) >> 1
    corner = _clamped(y, height)[:, :, None] * (width + 2 * BORDER) + _clamped(x, width)[:, None, :]
    return _taken(_bordered(samples, fill), corner).view_as(samples)


def _from_centre(length: int, shift: Tensor) -> Tensor:
    """[B, length]: twice the distance of each target pixel from the shifted centre, whole for even and odd lengths."""
    return 2 * torch.arange(length, device=shift.device, dtype=shift.dtype) - (length - 1) - 2 * shift[:, None]


def resampled(samples: Tensor, motion: Motion, fill: Fill) -> Tensor:
    """Every motion, bilinear; uint8 [B, channels, H, W] -> the same."""
    height, width = samples.shape[2:]
    x, y = _source_positions(height, width, motion)
    corner = _clamped(y >> WEIGHT_BITS, height) * (width + 2 * BORDER) + _clamped(x >> WEIGHT_BITS, width)
    weight_x, weight_y = ((position & (WHOLE_WEIGHT - 1)).to(torch.int32).flatten(1)[:, None] for position in (x, y))
    return _blended(_neighbours(_bordered(samples, fill), corner), weight_x, weight_y).view_as(samples)


def _source_positions(height: int, width: int, motion: Motion) -> tuple[Tensor, Tensor]:
    """Where in the source each target pixel lies: x and y, [B, H, W], in 1/256 pixel."""
    assert motion.turn is not None
    across, down = _from_centre(width, motion.shift_x), _from_centre(height, motion.shift_y)
    cos, sin, side = motion.turn[:, :1], motion.turn[:, 1:], motion.side[:, None]
    x = (side * cos * across)[:, None, :] + (side * sin * down)[:, :, None]
    y = (cos * down)[:, :, None] - (sin * across)[:, None, :]
    return _in_weight_units(x, width), _in_weight_units(y, height)


def _in_weight_units(from_centre: Tensor, length: int) -> Tensor:
    drop = POSITION_BITS - WEIGHT_BITS
    return from_centre.add_(((length - 1) << MATRIX_BITS) + (1 << (drop - 1))).bitwise_right_shift_(drop)


def zoomed(samples: Tensor, starts: tuple[Tensor, Tensor], sizes: tuple[Tensor, Tensor]) -> Tensor:
    """The box at *starts* (y, x) of *sizes* (y, x), blown up to the whole picture, bilinear.

    uint8 [B, channels, H, W] and int64 [B] each, in 1/256 pixel -> uint8 [B, channels, H, W].
    """
    height, width = samples.shape[2:]
    y, x = (_stretched(length, start, size) for length, start, size in zip((height, width), starts, sizes, strict=True))
    corner = (y >> WEIGHT_BITS)[:, :, None] * width + (x >> WEIGHT_BITS)[:, None, :]
    weight_y, weight_x = ((position & (WHOLE_WEIGHT - 1)).to(torch.int32) for position in (y, x))
    packed = _neighbours(samples, corner).view_as(samples)
    return _blended(packed, weight_x[:, None, None, :], weight_y[:, None, :, None])


def _stretched(length: int, start: Tensor, size: Tensor) -> Tensor:
    """[B, length]: where in the source the centre of each target pixel lies, to the nearest 1/256 pixel."""
    centres = 2 * torch.arange(length, device=size.device) + 1
    from_start = (centres * size[:, None] + length).div(2 * length, rounding_mode="floor")
    return (start[:, None] + from_start - (WHOLE_WEIGHT >> 1)).clamp(0, (length - 1) << WEIGHT_BITS)


def _clamped(position: Tensor, length: int) -> Tensor:
    """Into the bordered picture: beyond the border all neighbours are fill, hence the same."""
    return position.clamp(-BORDER, length + BORDER - 2) + BORDER


def _bordered(samples: Tensor, fill: Fill) -> Tensor:
    """[B, channels, H, W] -> [B, channels, H + 2 * BORDER, W + 2 * BORDER]."""
    height, width = samples.shape[2:]
    if fill == "edge":
        rows, columns = (
            torch.arange(-BORDER, length + BORDER, device=samples.device).clamp(0, length - 1)
            for length in (height, width)
        )
        return samples[:, :, rows][:, :, :, columns]
    bordered = samples.new_full((*samples.shape[:2], height + 2 * BORDER, width + 2 * BORDER), fill)
    bordered[:, :, BORDER:-BORDER, BORDER:-BORDER] = samples
    return bordered


def _taken(pictures: Tensor, corner: Tensor) -> Tensor:
    """[B, channels, h, w] at flat positions [B, ...] -> [B, channels, positions]."""
    index = corner.flatten(1).long()[:, None].expand(-1, pictures.shape[1], -1)
    return pictures.flatten(2).gather(2, index)


def _neighbours(bordered: Tensor, corner: Tensor) -> Tensor:
    """The four pixels from *corner* on, packed in one int32, so that one gather serves all four."""
    wide = torch.nn.functional.pad(bordered, (0, 1, 0, 1)).to(torch.int32)
    left, right = wide[..., :-1], wide[..., 1:]
    pairs = left | (right << 8)
    packed = pairs[:, :, :-1] | (pairs[:, :, 1:] << 16)
    return _taken(packed, corner)


def _blended(packed: Tensor, weight_x: Tensor, weight_y: Tensor) -> Tensor:
    """int32 [B, channels, ...] of four pixels each, int32 weights in 1/256 that broadcast to it -> uint8, its shape."""
    top_left, top_right, bottom_left, bottom_right = (_byte(packed, place) for place in range(4))
    top = _between(top_left, top_right, weight_x)
    bottom = _between(bottom_left, bottom_right, weight_x)
    half = 1 << (2 * WEIGHT_BITS - 1)
    return _between(top, bottom, weight_y).add_(half).bitwise_right_shift_(2 * WEIGHT_BITS).to(torch.uint8)


def _byte(packed: Tensor, place: int) -> Tensor:
    return (packed >> (8 * place)).bitwise_and_(255)


def _between(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    """first * (256 - weight) + second * weight; overwrites both."""
    return second.sub_(first).mul_(weight).add_(first.bitwise_left_shift_(WEIGHT_BITS))
