"""Which codec the soft targets get: measured on a sample against the teacher's own rows, and held to two bounds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from components.errors import SoftTargetsRefusedError
from components.soft_targets.codec import CODECS, EXACT, Codec, round_trip
from components.soft_targets.codecs.topk import TopK
from components.soft_targets.error import ErrorMeter, ErrorTable, add_to_all, no_error
from components.soft_targets.header import Candidate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from components.params import SoftTargetParams

SAMPLE_ROWS = 8192
"""Rows on which codecs are compared."""
MANY_CLASSES = 1000
"""From so many on, `auto` weighs top-k too: below, whole rows are small, and they serve objectives on raw logits."""
VALUES_AT_ONCE = 2**20


def sample_chunks(num_chunks: int, rows_per_chunk: int) -> list[int]:
    """Evenly spaced chunks of the flattened [view, sample] rows: enough for SAMPLE_ROWS of them, or all."""
    count = min(num_chunks, -(-SAMPLE_ROWS // rows_per_chunk))
    return [place * num_chunks // count for place in range(count)]


def choose(
    sample: Iterable[NDArray[np.float32]], params: SoftTargetParams, num_classes: int
) -> tuple[Candidate, tuple[Candidate, ...]]:
    """The best codec within both bounds on *sample*, and all that were weighed, from small to large.

    With max_kl, the best is the smallest; with max_bytes_per_row alone, the one with the least error.
    *sample*: pieces [n, C] of the teacher's logits, at least one row in all.
    SoftTargetsRefusedError: no codec that may be used keeps both bounds; it names what would.
    """
    scales = [_Scale(codec, ErrorMeter(params.temperatures)) for codec in candidates(params, num_classes)]
    for logits in sample:
        for start in range(0, len(logits), _rows_at_once(num_classes)):
            _weigh(scales, logits[start : start + _rows_at_once(num_classes)])
    weighed = tuple(scale.candidate(params, num_classes) for scale in scales)
    return _best(weighed, params), weighed


def candidates(params: SoftTargetParams, num_classes: int) -> list[Codec]:
    """What params.codec allows, from small to large."""
    whole = [codec for codec in CODECS.values() if params.codec in ("auto", codec.name)]
    with_topk = params.codec == "topk" or (params.codec == "auto" and num_classes >= MANY_CLASSES)
    topk = _topk(params.max_bytes_per_row, num_classes) if with_topk else ()
    return sorted([*whole, *topk], key=lambda codec: codec.row_stride_bytes(num_classes))


def beyond(error: ErrorTable, params: SoftTargetParams) -> str | None:
    """At which temperature *error* is largest, if it is beyond max_kl there."""
    worst = max(error, key=lambda temperature: error[temperature]["mean_kl"], default=None)
    if worst is None or params.max_kl is None or error[worst]["mean_kl"] <= params.max_kl:
        return None
    return f"mean KL is {error[worst]['mean_kl']:.3g} nats at T={worst:g}, and max_kl is {params.max_kl:g}"


def _topk(max_bytes: int | None, num_classes: int) -> Iterator[TopK]:
    """k = 1, 2, 4, ..., and the largest that fits *max_bytes*, where that is smaller than half precision."""
    ladder = {2**power for power in range(num_classes.bit_length())}
    if max_bytes is not None:
        first, second = (TopK(k).row_stride_bytes(num_classes) for k in (1, 2))
        ladder.add(1 + (max_bytes - first) // (second - first))
    limit = CODECS["fp16"].row_stride_bytes(num_classes)
    return (TopK(k) for k in sorted(ladder) if 0 < k < num_classes and TopK(k).row_stride_bytes(num_classes) < limit)


def _rows_at_once(num_classes: int) -> int:
    return max(1, VALUES_AT_ONCE // num_classes)


@dataclass(slots=True)
class _Scale:
    """Weighs one codec: whether it holds all rows, and what it does to them."""

    codec: Codec
    meter: ErrorMeter
    cannot: str | None = field(default=None)

    def candidate(self, params: SoftTargetParams, num_classes: int) -> Candidate:
        table = None if self.cannot else self._table(params)
        stride = self.codec.row_stride_bytes(num_classes)
        problems = (self.cannot, beyond(table or {}, params), _too_long(stride, params))
        return Candidate(
            codec=self.codec.name,
            row_stride_bytes=stride,
            error=None if table is None else {f"{temperature:g}": row for temperature, row in table.items()},
            largest_logit_error=None if table is None else self.meter.largest_logit_error,
            refused="; ".join(filter(None, problems)) or None,
        )

    def _table(self, params: SoftTargetParams) -> ErrorTable:
        return no_error(params.temperatures) if self.codec.name == EXACT else self.meter.table()


def _weigh(scales: Sequence[_Scale], logits: NDArray[np.float32]) -> None:
    for scale in scales:
        scale.cannot = scale.cannot or scale.codec.why_not(logits)
    able = [scale for scale in scales if not scale.cannot and scale.codec.name != EXACT]
    add_to_all([scale.meter for scale in able], logits, [round_trip(scale.codec, logits) for scale in able])


def _too_long(stride: int, params: SoftTargetParams) -> str | None:
    if params.max_bytes_per_row is None or stride <= params.max_bytes_per_row:
        return None
    return f"a row has {stride} bytes, and max_bytes_per_row is {params.max_bytes_per_row}"


def _best(weighed: Sequence[Candidate], params: SoftTargetParams) -> Candidate:
    eligible = [candidate for candidate in weighed if candidate.refused is None]
    if not eligible:
        raise SoftTargetsRefusedError(_refusal(weighed, params))
    return eligible[0] if params.max_kl is not None else min(eligible, key=_largest_mean_kl)


def _largest_mean_kl(candidate: Candidate) -> float:
    return max(row["mean_kl"] for row in (candidate.error or {}).values())


def _refusal(weighed: Sequence[Candidate], params: SoftTargetParams) -> str:
    bounds = {"max_kl": params.max_kl, "max_bytes_per_row": params.max_bytes_per_row}
    asked = " and ".join(f"{name} = {bound:g}" for name, bound in bounds.items() if bound is not None)
    reasons = "; ".join(f"{candidate.codec}: {candidate.refused}" for candidate in weighed)
    ways_out = ", or ".join(_ways_out(weighed, params))
    return f"no codec keeps the soft targets within soft_targets' {asked} ({reasons or 'none applies'}). Set {ways_out}"


def _ways_out(weighed: Sequence[Candidate], params: SoftTargetParams) -> Iterator[str]:
    """The nearest bounds that one of *weighed* keeps."""
    able = [candidate for candidate in weighed if candidate.error is not None]
    if params.codec != "auto":
        yield (
            f"soft_targets.codec to auto or {EXACT}"
            if params.max_bytes_per_row is None
            else "soft_targets.codec to auto"
        )
    precise = [each for each in able if params.max_kl is None or _largest_mean_kl(each) <= params.max_kl]
    if precise and params.max_bytes_per_row is not None:
        yield f"max_bytes_per_row to {precise[0].row_stride_bytes} ({precise[0].codec} keeps max_kl)"
    short = [each for each in able if not _too_long(each.row_stride_bytes, params)]
    if short:
        closest = min(short, key=_largest_mean_kl)
        yield f"max_kl to {_rounded_up(_largest_mean_kl(closest))} ({closest.codec}, {closest.row_stride_bytes} bytes a row)"


def _rounded_up(value: float) -> str:
    """To two digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1) if value > 0 else 1.0
    return f"{math.ceil(value / unit) * unit:.2g}"
