"""How rows of logits are stored, and what that loses: measured as KL on every row, never assumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from components.errors import SoftTargetsRefusedError
from components.evaluation.metrics import log_softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

VALUES_AT_ONCE = 2**20
"""Bounds the float64 temporaries of a measurement."""
ErrorTable = dict[float, dict[str, float]]
"""By temperature: mean_kl and p99_kl, in nats."""


class Codec(Protocol):
    """A fixed-stride form of rows of logits."""

    @property
    def name(self) -> str: ...

    def row_stride_bytes(self, num_classes: int) -> int: ...

    def why_not(self, logits: NDArray[np.float32]) -> str | None:
        """What in [N, C] this codec cannot hold at all, or None."""
        ...

    def encode(self, logits: NDArray[np.float32]) -> NDArray[np.uint8]:
        """[N, C] -> uint8 [N, row_stride_bytes]."""
        ...

    def decode(self, rows: NDArray[np.uint8], out: NDArray[np.float32]) -> None:
        """Writable uint8 [N, row_stride_bytes] -> *out* [N, C]; nothing to do where both are the same memory."""
        ...


@dataclass(frozen=True, slots=True)
class Raw:
    """Rows as plain little-endian numbers."""

    name: str
    dtype: str
    largest: float
    """Beyond it a value would become infinite."""

    def row_stride_bytes(self, num_classes: int) -> int:
        return num_classes * np.dtype(self.dtype).itemsize

    def why_not(self, logits: NDArray[np.float32]) -> str | None:
        peak = float(np.abs(logits).max(initial=0.0))
        return (
            f"a logit of magnitude {peak:g} is beyond its largest value {self.largest:g}"
            if peak > self.largest
            else None
        )

    def encode(self, logits: NDArray[np.float32]) -> NDArray[np.uint8]:
        return np.ascontiguousarray(logits, dtype=self.dtype).view(np.uint8).reshape(len(logits), -1)

    def decode(self, rows: NDArray[np.uint8], out: NDArray[np.float32]) -> None:
        import torch

        # torch widens half precision ten times as fast as numpy, to the same bits.
        if not np.may_share_memory(rows, out):
            torch.from_numpy(out).copy_(torch.from_numpy(rows.view(self.dtype)))


CODECS: dict[str, Codec] = {
    "fp32": Raw("fp32", "<f4", float(np.finfo(np.float32).max)),
    "fp16": Raw("fp16", "<f2", float(np.finfo(np.float16).max)),
}


def codec_named(name: str) -> Codec:
    """The codec that a header names; it may hold scratch memory, so each thread asks for its own.

    SoftTargetsRefusedError: there is none of that name.
    """
    if name not in CODECS:
        raise SoftTargetsRefusedError(f"soft targets refused: codec {name!r} is none of {', '.join(CODECS)}")
    return CODECS[name]


def round_trip(codec: Codec, logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a reader will see of *logits*; [N, C] -> [N, C]."""
    decoded = np.empty_like(logits)
    codec.decode(codec.encode(logits), decoded)
    return decoded


def kl_rows(live: NDArray[np.float32], stored: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """KL(softmax(live / T) || softmax(stored / T)) of each row, in nats, in double precision; [N, C] twice -> [N]."""
    kl = np.empty(len(live), dtype=np.float64)
    for part in _parts(*live.shape):
        log_p, log_q = (log_softmax(logits[part], temperature=temperature) for logits in (live, stored))
        kl[part] = (np.exp(log_p) * (log_p - log_q)).sum(axis=1)
    return np.maximum(kl, 0.0)


def _parts(num_rows: int, num_classes: int) -> Sequence[slice]:
    step = max(1, VALUES_AT_ONCE // max(1, num_classes))
    return [slice(start, start + step) for start in range(0, num_rows, step)]


@dataclass(slots=True)
class ErrorMeter:
    """Gathers the KL of all rows, some at a time; the mean is exact and p99 is over every row."""

    temperatures: Sequence[float]
    _sums: dict[float, float] = field(default_factory=dict)
    _rows: dict[float, list[NDArray[np.float32]]] = field(default_factory=dict)

    def add(self, live: NDArray[np.float32], stored: NDArray[np.float32]) -> None:
        for temperature in self.temperatures:
            kl = kl_rows(live, stored, temperature)
            self._sums[temperature] = self._sums.get(temperature, 0.0) + float(kl.sum())
            self._rows.setdefault(temperature, []).append(kl.astype(np.float32))

    def table(self) -> ErrorTable:
        return {temperature: self._row(temperature) for temperature in self.temperatures}

    def _row(self, temperature: float) -> dict[str, float]:
        kl = np.concatenate(self._rows[temperature])
        return {"mean_kl": self._sums[temperature] / len(kl), "p99_kl": float(np.quantile(kl, 0.99))}


def measure(reference: NDArray[np.float32], decoded: NDArray[np.float32], temperatures: Sequence[float]) -> ErrorTable:
    """What storing cost: KL(reference || decoded) at each T, in nats; [N, C] twice, N >= 1."""
    meter = ErrorMeter(temperatures)
    meter.add(reference, decoded)
    return meter.table()


def no_error(temperatures: Sequence[float]) -> ErrorTable:
    """The table of a codec that stores every bit."""
    return {temperature: {"mean_kl": 0.0, "p99_kl": 0.0} for temperature in temperatures}
