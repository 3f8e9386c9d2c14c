"""Whole rows in 8 or 4 bits a class, each row with a scale and an offset of its own.

The softmax does not see the offset, which is there for objectives on raw logits. Steps are counted downward from the
largest logit, so that rounding the offset shifts a row as a whole and costs no KL.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from components.soft_targets.codecs.limits import HALF, SMALLEST_HALF, too_large, too_wide

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEW_CLASSES = 32
LARGEST = 2.0**126
"""Whatever is rounded up from it is still finite."""
MOST_STEPS = 32767 - 255
"""From zero to a row's largest logit: the steps down to its smallest must fit in 16 bits as well."""
SMALLEST_SCALE = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True)
class Int8:
    """255 equal steps from a row's largest logit down to its smallest, both of them whole numbers of steps.

    A row is: the step (float32), how many steps the largest logit is (int16), and how many each class lies below it, a
    byte a class. A logit is off by at most one step: half of it by its own rounding, half by that of the largest. The
    step is range / 255; only where the largest is beyond 127 times the range, it is the largest / 32512.
    """

    name: str = "int8"

    def row_stride_bytes(self, num_classes: int) -> int:
        return 6 + num_classes

    def why_not(self, logits: NDArray[np.float32]) -> str | None:
        return too_large(logits, LARGEST)

    def encode(self, logits: NDArray[np.float32]) -> NDArray[np.uint8]:
        doubles = logits.astype(np.float64)
        top = doubles.max(axis=1, keepdims=True)
        below = top - doubles
        step = np.maximum(below.max(axis=1, keepdims=True) / 255, np.abs(top) / MOST_STEPS)
        stored = np.maximum(step, SMALLEST_SCALE).astype("<f4")
        rows = np.empty((len(logits), self.row_stride_bytes(logits.shape[1])), dtype=np.uint8)
        rows[:, :4] = stored.view(np.uint8)
        rows[:, 4:6] = np.clip(np.rint(top / stored), -MOST_STEPS, MOST_STEPS).astype("<i2").view(np.uint8)
        rows[:, 6:] = np.minimum(np.rint(below / stored), 255)
        return rows

    def decoder(self, rows: NDArray[np.uint8], out: NDArray[np.float32]) -> Callable[[], None]:
        decoder = _decoder_of_few if out.shape[1] < FEW_CLASSES else _decoder_of_many
        return decoder(rows[:, :4].view("<f4"), rows[:, 4:6].view("<i2"), rows[:, 6:], out)


def _decoder_of_few(
    step: NDArray[np.float32], top: NDArray[np.int16], below: NDArray[np.uint8], out: NDArray[np.float32]
) -> Callable[[], None]:
    """*out* = (*top* - *below*) * *step*, in the least number of calls."""
    steps = np.empty(out.shape, dtype=np.int16)

    def decode() -> None:
        np.subtract(top, below, out=steps)
        np.multiply(steps, step, out=out)

    return decode


def _decoder_of_many(
    step: NDArray[np.float32], top: NDArray[np.int16], below: NDArray[np.uint8], out: NDArray[np.float32]
) -> Callable[[], None]:
    """The same to the bit, with the faster loops."""
    import torch

    head = np.empty((len(out), 2), dtype=np.float32)
    top_as_float, scale = torch.from_numpy(head).split(1, dim=1)
    values, stored = torch.from_numpy(out), torch.from_numpy(below)

    def decode() -> None:
        np.copyto(head[:, :1], top)
        np.copyto(head[:, 1:], step)
        values.copy_(stored)
        torch.sub(top_as_float, values, out=values)
        values.mul_(scale)

    return decode


@dataclass(frozen=True, slots=True)
class Int4:
    """Sixteen levels a row: one for the largest logit alone, fifteen from the second largest down to the smallest.

    The fifteen are quadratic, closer together at the top: KL weighs a class by its probability. A level of its own for
    the largest matters because a confident teacher leaves a wide gap below it, on which equal steps would be spent.
    A row is: offset, gap and scale (half precision), then half a byte a class, the even class in the low half. A logit
    is off by at most half the widest step, 0.052 of the range below the gap, and the rounding of offset and gap.
    """

    name: str = "int4"

    def row_stride_bytes(self, num_classes: int) -> int:
        return 6 + (num_classes + 1) // 2

    def why_not(self, logits: NDArray[np.float32]) -> str | None:
        return too_wide(logits)

    def encode(self, logits: NDArray[np.float32]) -> NDArray[np.uint8]:
        first = logits.argmax(axis=1, keepdims=True)
        top = np.take_along_axis(logits, first, axis=1)
        second = _second_largest(logits, top)
        below = second - logits
        scale = _half_scale(below.max(axis=1, keepdims=True) / _LEVELS[-1])
        levels = 1 + np.searchsorted(_MIDPOINTS, below / scale)
        np.put_along_axis(levels, first, 0, axis=1)
        return np.concatenate((_as_bytes(top, top - second, scale), _packed(levels)), axis=1)

    def decoder(self, rows: NDArray[np.uint8], out: NDArray[np.float32]) -> Callable[[], None]:
        import torch

        num_rows, num_classes = out.shape
        packed, pairs = rows[:, 6:], _pairs()
        index = np.empty(packed.shape, dtype=np.intp)
        in_place = num_classes % 2 == 0 and out.flags.c_contiguous
        wide = out if in_place else np.empty((num_rows, 2 * packed.shape[1]), dtype=np.float32)
        values, by_two = torch.from_numpy(wide), wide.view(np.uint64)
        stored, head = rows[:, :6].view(HALF), np.empty((num_rows, 3), dtype=np.float32)
        top, gap, scale = torch.from_numpy(head).split(1, dim=1)
        second = torch.empty((num_rows, 1))

        def decode() -> None:
            np.copyto(head, stored)
            np.copyto(index, packed)
            np.take(pairs, index, out=by_two, mode="clip")
            values.mul_(scale)
            torch.sub(top, gap, out=second)
            torch.sub(second, values, out=values)
            torch.minimum(values, top, out=values)
            if not in_place:
                np.copyto(out, wide[:, :num_classes])

        return decode


_CURVE = 8
"""Where the parabola of Int4 starts: 0 would double its widest step, infinity would make all steps equal."""
_LEVELS = ((np.arange(15) + _CURVE) ** 2 - _CURVE**2).astype(np.float32)
_MIDPOINTS = (_LEVELS[1:] + _LEVELS[:-1]) / 2


def _half_scale(scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """*scale* as it will be read back, above zero."""
    return np.maximum(scale.astype(np.float16), SMALLEST_HALF).astype(np.float32)


def _as_bytes(*columns: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Columns [N, 1] in half precision, side by side."""
    return np.concatenate(columns, axis=1).astype(HALF).view(np.uint8)


def _second_largest(logits: NDArray[np.float32], top: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.partition(logits, -2, axis=1)[:, -2:-1] if logits.shape[1] > 1 else top


def _packed(levels: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Levels 0..15 [N, C] two a byte; [N, ceil(C / 2)]."""
    even = levels[:, 0::2].astype(np.uint8)
    even[:, : levels.shape[1] // 2] |= levels[:, 1::2].astype(np.uint8) << 4
    return even


@cache
def _pairs() -> NDArray[np.uint64]:
    """The two float32 steps below the second largest that a byte stands for, as one number; [256].

    The level of the largest is minus infinity: subtracted, it rises above everything and is cut at the offset.
    """
    levels = np.concatenate(([-np.inf], _LEVELS)).astype(np.float32)
    byte = np.arange(256)
    return np.stack((levels[byte & 15], levels[byte >> 4]), axis=1).view(np.uint64).reshape(-1)
