"""Turns brightness, contrast, saturation and hue into one linear map of a pixel's channels, in integers.

Factors are whole numbers of 1/256, the map's entries whole numbers of 1 / 2^14. Each row of the map sums to
brightness times contrast exactly, so that a grey pixel stays grey whatever is drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from components.contracts import Draws

FACTOR_BITS = 8
ONE = 1 << FACTOR_BITS
MAP_BITS = 14
HUE_BITS = 12
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
LUMA = (77, 150, 29)
"""Rec. 601, in 1/256."""
COLOURS = 3


@lru_cache(maxsize=8)
def hue_table(max_degrees: int) -> Tensor:
    """int64 [2 * max_degrees + 1, 3, 3]: turns of -max..max whole degrees, in 1 / 2^12; rows sum to one exactly.

    Rounded from the host's double precision, where an error of the last bit cannot reach the 12th.
    """
    return torch.tensor([_hue_matrix(math.radians(degree)) for degree in range(-max_degrees, max_degrees + 1)])


def _hue_matrix(angle: float) -> list[list[int]]:
    """A turn about the grey axis: 120 degrees take red to green, green to blue and blue to red."""
    same = math.cos(angle) + (1 - math.cos(angle)) / COLOURS
    following, preceding = ((1 - math.cos(angle)) / COLOURS + sign * math.sin(angle) / math.sqrt(3) for sign in (1, -1))
    kept, forward = round(same * (1 << HUE_BITS)), round(following * (1 << HUE_BITS))
    backward = (1 << HUE_BITS) - kept - forward
    assert abs(backward - preceding * (1 << HUE_BITS)) <= 2
    return [[kept, backward, forward], [forward, kept, backward], [backward, forward, kept]]


@dataclass(frozen=True, slots=True)
class Jitter:
    """Brightness, contrast about the picture's mean luma, saturation and hue; a `contracts.Transform`."""

    brightness: int
    contrast: int
    saturation: int
    """The largest changes, in 1/256."""
    hue_degrees: int

    def __call__(self, samples: Tensor, draws: Draws) -> Tensor:
        """uint8 [B, channels, H, W] -> the same."""
        brightness = draws.integers(ONE - self.brightness, ONE + self.brightness, word=BRIGHTNESS)
        contrast = draws.integers(ONE - self.contrast, ONE + self.contrast, word=CONTRAST)
        gain = (brightness * contrast) >> (2 * FACTOR_BITS - MAP_BITS)
        offset = self._offset(samples, brightness, contrast) if self.contrast else torch.zeros_like(gain)
        offset += 1 << (MAP_BITS - 1)
        if not (self.saturation or self.hue_degrees):
            return _linear(samples, gain.to(torch.int32), offset.to(torch.int32))
        return _mapped(samples, self._map(gain, draws).to(torch.int32), offset.to(torch.int32))

    def _offset(self, samples: Tensor, brightness: Tensor, contrast: Tensor) -> Tensor:
        """What contrast adds: the mean luma, as bright as the picture becomes, as far as it is kept; in 1 / 2^14."""
        return (brightness * (ONE - contrast) * mean_luma(samples)) >> (3 * FACTOR_BITS - MAP_BITS)

    def _map(self, gain: Tensor, draws: Draws) -> Tensor:
        """[B, 3, 3] in 1 / 2^14: hue after saturation, times *gain*."""
        saturation = draws.integers(ONE - self.saturation, ONE + self.saturation, word=SATURATION)
        turned = draws.integers(0, 2 * self.hue_degrees, word=HUE)
        hue = hue_table(self.hue_degrees).to(gain.device)[turned]
        grey = torch.tensor(LUMA, device=gain.device) * (ONE - saturation)[:, None]
        # Rows of hue sum to one, so hue after saturation is saturation times hue, plus the same grey in each row.
        mixed = hue * (saturation << FACTOR_BITS)[:, None, None] + (grey << HUE_BITS)[:, None]
        entries = (mixed * gain[:, None, None]) >> (2 * FACTOR_BITS + HUE_BITS)
        entries[:, :, 2] = gain[:, None] - entries[:, :, 0] - entries[:, :, 1]
        return entries


def mean_luma(samples: Tensor) -> Tensor:
    """uint8 [B, channels, H, W] -> int64 [B], in 1/256, rounded down; of pictures that are not RGB the plain mean."""
    sums = samples.flatten(2).sum(2, dtype=torch.int64)
    if samples.shape[1] == COLOURS:
        luma = (sums * torch.tensor(LUMA, device=sums.device)).sum(1)
    else:
        luma = (sums.sum(1) << FACTOR_BITS).div(samples.shape[1], rounding_mode="floor")
    return luma.div(math.prod(samples.shape[2:]), rounding_mode="floor")


def _linear(samples: Tensor, gain: Tensor, offset: Tensor) -> Tensor:
    """gain * value + offset, int32 [B] each."""
    values = samples.to(torch.int32).mul_(gain[:, None, None, None]).add_(offset[:, None, None, None])
    return _as_pixels(values)


def _mapped(samples: Tensor, entries: Tensor, offset: Tensor) -> Tensor:
    """entries @ colour + offset for each pixel; int32 [B, 3, 3] and [B]."""
    colours = samples.to(torch.int32)
    values = offset[:, None, None, None].expand(colours.shape).contiguous()
    for source in range(COLOURS):
        values.addcmul_(entries[:, :, source, None, None], colours[:, source, None])
    return _as_pixels(values)


def _as_pixels(values: Tensor) -> Tensor:
    return values.bitwise_right_shift_(MAP_BITS).clamp_(0, 255).to(torch.uint8)
