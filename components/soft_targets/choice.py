"""Which codec the soft targets get: measured on a sample against the teacher's own rows, and held to two bounds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from components.contracts import LabelKind
from components.errors import SoftTargetsRefusedError
from components.soft_targets.codec import CODECS, EXACT, Codec, round_trip
from components.soft_targets.codecs.plain import Plain
from components.soft_targets.codecs.topk import TopK
from components.soft_targets.error import ErrorTable, Meter, add_to_all, in_words, meter_of, no_error
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
    sample: Iterable[NDArray[np.float32]], params: SoftTargetParams, num_classes: int, labels: LabelKind = "classes"
) -> tuple[Candidate, tuple[Candidate, ...]]:
    """The best codec within both bounds on *sample*, and all that were weighed, from small to large.

    With max_kl, the best is the smallest; with max_bytes_per_row alone, the one with the least error.
    *sample*: pieces [n, C] of the teacher's logits, at least one row in all.
    SoftTargetsRefusedError: no codec that may be used keeps both bounds; it names what would.
    """
    bound, codecs = bound_of(params, labels), candidates(params, num_classes, labels)
    scales = [_Scale(codec, meter_of(labels, params.temperatures), bound) for codec in codecs]
    for logits in sample:
        for start in range(0, len(logits), _rows_at_once(num_classes)):
            _weigh(scales, logits[start : start + _rows_at_once(num_classes)])
    weighed = tuple(scale.candidate(params, num_classes) for scale in scales)
    return _best(weighed, params, bound), weighed


@dataclass(frozen=True, slots=True)
class Bound:
    """Which figure of the error is held to which parameter."""

    figure: str
    name: str
    limit: float | None
    labels: LabelKind


def bound_of(params: SoftTargetParams, labels: LabelKind) -> Bound:
    if labels == "numbers":
        return Bound("relative_rmse", "max_relative_error", params.max_relative_error, labels)
    return Bound("mean_kl", "max_kl", params.max_kl, labels)


def candidates(params: SoftTargetParams, num_classes: int, labels: LabelKind = "classes") -> list[Codec]:
    """What params.codec allows, from small to large; of numbers, none that counts steps below a row's largest."""
    whole = [codec for codec in CODECS.values() if params.codec in ("auto", codec.name)]
    if labels == "numbers":
        whole = [codec for codec in whole if isinstance(codec, Plain)]
    with_topk = labels == "classes" and (
        params.codec == "topk" or (params.codec == "auto" and num_classes >= MANY_CLASSES)
    )
    topk = _topk(params.max_bytes_per_row, num_classes) if with_topk else ()
    return sorted([*whole, *topk], key=lambda codec: codec.row_stride_bytes(num_classes))


def beyond(error: ErrorTable, bound: Bound) -> str | None:
    """At which temperature *error* is largest, if it is beyond the bound there."""
    worst = max(error, key=lambda temperature: error[temperature][bound.figure], default=None)
    if worst is None or bound.limit is None or error[worst][bound.figure] <= bound.limit:
        return None
    return f"{in_words(error[worst], worst)}, and {bound.name} is {bound.limit:g}"


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
    meter: Meter
    bound: Bound
    cannot: str | None = field(default=None)

    def candidate(self, params: SoftTargetParams, num_classes: int) -> Candidate:
        table = None if self.cannot else self._table(params)
        stride = self.codec.row_stride_bytes(num_classes)
        problems = (self.cannot, beyond(table or {}, self.bound), _too_long(stride, params))
        return Candidate(
            codec=self.codec.name,
            row_stride_bytes=stride,
            error=None if table is None else {f"{temperature:g}": row for temperature, row in table.items()},
            largest_logit_error=None if table is None else self.meter.largest_logit_error,
            refused="; ".join(filter(None, problems)) or None,
        )

    def _table(self, params: SoftTargetParams) -> ErrorTable:
        if self.codec.name != EXACT:
            return self.meter.table()
        return no_error(params.temperatures, self.bound.labels)


def _weigh(scales: Sequence[_Scale], logits: NDArray[np.float32]) -> None:
    for scale in scales:
        scale.cannot = scale.cannot or scale.codec.why_not(logits)
    able = [scale for scale in scales if not scale.cannot and scale.codec.name != EXACT]
    add_to_all([scale.meter for scale in able], logits, [round_trip(scale.codec, logits) for scale in able])


def _too_long(stride: int, params: SoftTargetParams) -> str | None:
    if params.max_bytes_per_row is None or stride <= params.max_bytes_per_row:
        return None
    return f"a row has {stride} bytes, and max_bytes_per_row is {params.max_bytes_per_row}"


def _best(weighed: Sequence[Candidate], params: SoftTargetParams, bound: Bound) -> Candidate:
    eligible = [candidate for candidate in weighed if candidate.refused is None]
    if not eligible:
        raise SoftTargetsRefusedError(_refusal(weighed, params, bound))
    return eligible[0] if bound.limit is not None else min(eligible, key=lambda each: _worst(each, bound))


def _worst(candidate: Candidate, bound: Bound) -> float:
    return max(row[bound.figure] for row in (candidate.error or {}).values())


def _refusal(weighed: Sequence[Candidate], params: SoftTargetParams, bound: Bound) -> str:
    bounds = {bound.name: bound.limit, "max_bytes_per_row": params.max_bytes_per_row}
    asked = " and ".join(f"{name} = {limit:g}" for name, limit in bounds.items() if limit is not None)
    reasons = "; ".join(f"{candidate.codec}: {candidate.refused}" for candidate in weighed)
    ways_out = ", or ".join(_ways_out(weighed, params, bound))
    return f"no codec keeps the soft targets within soft_targets' {asked} ({reasons or 'none applies'}). Set {ways_out}"


def _ways_out(weighed: Sequence[Candidate], params: SoftTargetParams, bound: Bound) -> Iterator[str]:
    """The nearest bounds that one of *weighed* keeps."""
    able = [candidate for candidate in weighed if candidate.error is not None]
    if params.codec != "auto":
        yield (
            f"soft_targets.codec to auto or {EXACT}"
            if params.max_bytes_per_row is None
            else "soft_targets.codec to auto"
        )
    precise = [each for each in able if bound.limit is None or _worst(each, bound) <= bound.limit]
    if precise and params.max_bytes_per_row is not None:
        yield f"max_bytes_per_row to {precise[0].row_stride_bytes} ({precise[0].codec} keeps {bound.name})"
    short = [each for each in able if not _too_long(each.row_stride_bytes, params)]
    if short:
        closest = min(short, key=lambda each: _worst(each, bound))
        yield f"{bound.name} to {_rounded_up(_worst(closest, bound))} ({closest.codec}, {closest.row_stride_bytes} bytes a row)"


def _rounded_up(value: float) -> str:
    """To two digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1) if value > 0 else 1.0
    return f"{math.ceil(value / unit) * unit:.2g}"
