"""Whole rows as plain little-endian floating-point numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from components.soft_targets.codecs.limits import too_large

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Plain:
    """Rows of *dtype*."""

    name: str
    dtype: str

    def row_stride_bytes(self, num_classes: int) -> int:
        return num_classes * np.dtype(self.dtype).itemsize

    def why_not(self, logits: NDArray[np.float32]) -> str | None:
        return too_large(logits, float(np.finfo(self.dtype).max))

    def encode(self, logits: NDArray[np.float32]) -> NDArray[np.uint8]:
        return np.ascontiguousarray(logits, dtype=self.dtype).view(np.uint8)

    def decoder(self, rows: NDArray[np.uint8], out: NDArray[np.float32]) -> Callable[[], None]:
        import torch

        if np.may_share_memory(rows, out):
            return _nothing
        # torch widens half precision ten times as fast as numpy, to the same bits.
        values, stored = torch.from_numpy(out), torch.from_numpy(rows.view(self.dtype))

        def decode() -> None:
            values.copy_(stored)

        return decode


def _nothing() -> None:
    """The stored rows are the decoded ones."""
