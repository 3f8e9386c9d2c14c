"""What half precision cannot hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

HALF = "<f2"
LARGEST_HALF = float(np.finfo(np.float16).max)
SMALLEST_HALF = np.float16(2.0**-24)
"""Above zero."""


def too_large(logits: NDArray[np.float32], largest: float) -> str | None:
    """Why not all of [N, C] are finite numbers up to *largest* in magnitude, or None."""
    peak = float(np.abs(logits).max(initial=0.0))
    if not np.isfinite(peak):
        return "a logit is not a finite number"
    return f"a logit of magnitude {peak:g} is beyond its largest value {largest:g}" if peak > largest else None


def too_wide(logits: NDArray[np.float32]) -> str | None:
    """Why the top of each row of [N, C], and how far the others lie below it, do not fit in half precision, or None."""
    width = float(np.ptp(logits, axis=1).max(initial=0.0)) if logits.shape[1] else 0.0
    beyond = f"a row spans {width:g}, beyond the largest value {LARGEST_HALF:g} of half precision"
    return too_large(logits, LARGEST_HALF) or (beyond if width > LARGEST_HALF else None)
