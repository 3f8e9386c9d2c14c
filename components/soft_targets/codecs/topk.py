"""The largest logits of a row with their classes, and what probability all others have together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from components.soft_targets.codecs.limits import HALF, too_wide

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TopK:
    """The *k* largest logits in half precision; the other classes share one logit, so that their mass at T = 1 is exact.

    Nothing is renormalised: a student sees what the teacher leaves to the rest. At another temperature the mass of the
    rest is approximate, and within the rest classes are not told apart; the measured error says what that costs.
    A row is: how far the shared logit lies below the top (float32), the top and how far the others lie below it
    (half precision, falling), and their classes in as few bytes as hold C - 1.
    """

    k: int

    @property
    def name(self) -> str:
        return f"topk-{self.k}"

    def row_stride_bytes(self, num_classes: int) -> int:
        return 4 + self.k * bytes_a_class(num_classes)

    def why_not(self, logits: NDArray[np.float32]) -> str | None:
        if self.k >= logits.shape[1]:
            return f"there are only {logits.shape[1]} classes"
        return too_wide(logits)

    def encode(self, logits: NDArray[np.float32]) -> NDArray[np.uint8]:
        num_classes = logits.shape[1]
        classes = _largest(logits, self.k)
        kept = np.take_along_axis(logits, classes, axis=1)
        stored = np.concatenate((kept[:, :1], kept[:, :1] - kept[:, 1:]), axis=1).astype(HALF)
        below = _shared_below(logits, classes, stored).astype("<f4")
        pieces = (below, stored, classes.astype(_index_dtype(num_classes)))
        return np.concatenate([np.ascontiguousarray(piece).view(np.uint8) for piece in pieces], axis=1)

    def decoder(self, rows: NDArray[np.uint8], out: NDArray[np.float32]) -> Callable[[], None]:
        import torch

        end = 4 + 2 * self.k
        below, halves = rows[:, :4].view("<f4"), rows[:, 4:end].view(HALF)
        classes = rows[:, end:].view(_index_dtype(out.shape[1]))
        head, kept = np.empty((len(rows), 1), dtype=np.float32), np.empty((len(rows), self.k), dtype=np.float32)
        index = np.empty((len(rows), self.k), dtype=np.int64)
        values, shared, places = torch.from_numpy(out), torch.from_numpy(head), torch.from_numpy(index)
        source = torch.from_numpy(kept)
        top, others = source[:, :1], source[:, 1:]

        def decode() -> None:
            np.copyto(head, below)
            np.copyto(kept, halves)
            np.copyto(index, classes)
            torch.sub(top, shared, out=shared)
            torch.sub(top, others, out=others)
            values.copy_(shared)
            values.scatter_(1, places, source)

        return decode


def bytes_a_class(num_classes: int) -> int:
    """Of a logit that is kept: half precision and the class."""
    return 2 + np.dtype(_index_dtype(num_classes)).itemsize


def _index_dtype(num_classes: int) -> str:
    return next(dtype for dtype in ("<u1", "<u2", "<u4") if num_classes - 1 <= np.iinfo(dtype).max)


def _largest(logits: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Classes of the *k* largest, falling; [N, C] -> [N, k]."""
    some = np.sort(np.argpartition(-logits, k - 1, axis=1)[:, :k], axis=1)
    order = np.argsort(-np.take_along_axis(logits, some, axis=1), axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1)


def _shared_below(
    logits: NDArray[np.float32], classes: NDArray[np.int64], stored: NDArray[np.float16]
) -> NDArray[np.float64]:
    """How far below the top the rest must lie for its mass at T = 1 to be exact beside the *stored* logits; [N, 1]."""
    above = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    kept = np.take_along_axis(above, classes, axis=1)
    np.put_along_axis(above, classes, -np.inf, axis=1)
    rounded = -stored.astype(np.float64)
    rounded[:, 0] = 0.0
    rest = _log_sum_exp(above) - _log_sum_exp(kept) + _log_sum_exp(rounded)
    return np.asarray(np.log(logits.shape[1] - classes.shape[1]) - rest)


def _log_sum_exp(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """[N, C] -> [N, 1]."""
    peak = values.max(axis=1, keepdims=True)
    return np.asarray(peak + np.log(np.exp(values - peak).sum(axis=1, keepdims=True)))
