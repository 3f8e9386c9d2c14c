"""Which codec the soft targets get: the smallest within the bound, measured against the teacher's own rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from components.errors import SoftTargetsRefusedError
from components.soft_targets.codec import CODECS, Codec, ErrorMeter, ErrorTable, no_error
from components.soft_targets.header import Candidate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from components.params import SoftTargetParams

EXACT = "fp32"
SAMPLE_ROWS = 8192
"""Rows on which codecs are compared; the error of the chosen one is then measured on every row."""


def sample_chunks(num_chunks: int, rows_per_chunk: int) -> list[int]:
    """Evenly spaced chunks of the flattened [view, sample] rows: enough for SAMPLE_ROWS of them, or all."""
    count = min(num_chunks, -(-SAMPLE_ROWS // rows_per_chunk))
    return [place * num_chunks // count for place in range(count)]


@dataclass(slots=True)
class Scale:
    """Encodes rows with one codec and weighs it on the way: whether it holds them all, and what it does to them."""

    codec: Codec
    num_classes: int
    params: SoftTargetParams
    cannot: str | None = None
    meter: ErrorMeter = field(init=False)

    def __post_init__(self) -> None:
        self.meter = ErrorMeter(self.params.temperatures)

    def add(self, logits: NDArray[np.float32]) -> NDArray[np.uint8] | None:
        """[n, C] -> encoded rows uint8 [n, stride], or None from the first that the codec cannot hold."""
        self.cannot = self.cannot or self.codec.why_not(logits)
        if self.cannot:
            return None
        encoded = self.codec.encode(logits)
        if self.codec.name != EXACT:
            self.meter.add(logits, _decoded(self.codec, encoded, logits.shape))
        return encoded

    def candidate(self) -> Candidate:
        """The judgement on all rows added so far, of which there is at least one."""
        table = None if self.cannot else self._table()
        return Candidate(
            codec=self.codec.name,
            row_stride_bytes=self.codec.row_stride_bytes(self.num_classes),
            error=None if table is None else {f"{temperature:g}": row for temperature, row in table.items()},
            refused=self.cannot or beyond(table or {}, self.params),
        )

    def _table(self) -> ErrorTable:
        return no_error(self.params.temperatures) if self.codec.name == EXACT else self.meter.table()


def _decoded(codec: Codec, encoded: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.float32]:
    decoded = np.empty(shape, dtype=np.float32)
    codec.decode(encoded, decoded)
    return decoded


def choose(
    sample: Iterable[NDArray[np.float32]], params: SoftTargetParams, num_classes: int
) -> tuple[Candidate, tuple[Candidate, ...]]:
    """The smallest codec within the bound on *sample*, and all that were weighed, from small to large.

    *sample*: pieces [n, C] of the teacher's logits, at least one row in all.
    SoftTargetsRefusedError: no codec that may be used keeps within the bound.
    """
    scales = [Scale(codec, num_classes, params) for codec in _codecs(params, num_classes)]
    for logits in sample:
        for scale in scales:
            scale.add(logits)
    weighed = tuple(scale.candidate() for scale in scales)
    return smallest(weighed), weighed


def smallest(weighed: Sequence[Candidate]) -> Candidate:
    """The first that is not refused; *weighed* goes from small to large. SoftTargetsRefusedError if all are."""
    chosen = next((candidate for candidate in weighed if candidate.refused is None), None)
    if chosen is None:
        reasons = "; ".join(f"{candidate.codec}: {candidate.refused}" for candidate in weighed)
        raise SoftTargetsRefusedError(
            f"no codec keeps the soft targets within soft_targets.max_kl ({reasons}). "
            f"Set soft_targets.codec to auto or {EXACT}, or raise max_kl"
        )
    return chosen


def replace(weighed: Sequence[Candidate], judged: Candidate) -> tuple[Candidate, ...]:
    """*weighed* with what is known of one of them from every row in the place of what the sample said."""
    return tuple(judged if candidate.codec == judged.codec else candidate for candidate in weighed)


def beyond(error: ErrorTable, params: SoftTargetParams) -> str | None:
    """At which temperature *error* is largest, if it is beyond the bound there."""
    worst = max(error, key=lambda temperature: error[temperature]["mean_kl"], default=None)
    if worst is None or error[worst]["mean_kl"] <= params.max_kl:
        return None
    return f"mean KL is {error[worst]['mean_kl']:.3g} nats at T={worst:g}, and max_kl is {params.max_kl:g}"


def _codecs(params: SoftTargetParams, num_classes: int) -> list[Codec]:
    codecs = CODECS.values() if params.codec == "auto" else [CODECS[params.codec]]
    return sorted(codecs, key=lambda codec: codec.row_stride_bytes(num_classes))
