"""What a picture looks like, in figures: its size, its brightness and its contrast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROWS_AT_ONCE = 1024


def describe_images(samples: NDArray[np.uint8]) -> Mapping[str, NDArray[Any]]:
    """[N, channels, height, width] -> size, and mean and deviation of values scaled to 0..1; [N] each."""
    rows, channels, height, width = samples.shape
    sizes = {"height": height, "width": width, "channels": channels}
    mean, std = _statistics(samples)
    return {**{name: np.full(rows, size) for name, size in sizes.items()}, "mean": mean, "std": std}


def _statistics(samples: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """[N, *S] -> mean [N] and standard deviation [N] of values scaled to 0..1; summed in whole numbers."""
    means, stds = np.empty(len(samples)), np.empty(len(samples))
    for start in range(0, len(samples), _ROWS_AT_ONCE):
        part = samples[start : start + _ROWS_AT_ONCE]
        values = part.reshape(len(part), -1).astype(np.int64)
        size, total, squares = values.shape[1], values.sum(axis=1), (values * values).sum(axis=1)
        means[start : start + len(part)] = total / (255 * size)
        stds[start : start + len(part)] = np.sqrt(size * squares - total * total) / (255 * size)
    return means, stds
