"""What storing rows of logits loses, measured against the teacher's own rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from components.contracts import LabelKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

VALUES_AT_ONCE = 2**14
"""Rows are measured in blocks of so many values, whose double-precision temporaries stay in a core's cache."""
MANY_CLASSES = 256
ErrorTable = dict[float, dict[str, float]]
"""By temperature: the figures that ErrorMeter names."""


@dataclass(slots=True)
class _Tally:
    """Of all rows so far at one temperature."""

    kl: list[NDArray[np.float64]] = field(default_factory=list)
    error_sum: NDArray[np.float64] | float = 0.0
    """[C]: of p(live) - p(stored)."""
    error_norm: float = 0.0
    """Of the Euclidean norms of those differences."""
    gradient_norm: float = 0.0
    """Of the norms of 1/C - p(live)."""

    def add(self, live: NDArray[np.float64], stored: NDArray[np.float64], kl: NDArray[np.float64]) -> None:
        """Probabilities [C, n] twice, and the KL [n] between them; *stored* is overwritten."""
        self.kl.append(kl.astype(np.float32))
        stored -= live
        self.error_sum -= stored.sum(axis=1)
        self.error_norm += _norms(stored)
        self.gradient_norm += _norms(live - 1 / len(live))

    def row(self) -> dict[str, float]:
        kl = np.concatenate(self.kl)
        scale = self.gradient_norm or 1.0
        return {
            "mean_kl": float(kl.mean(dtype=np.float64)),
            "p99_kl": float(np.quantile(kl, 0.99)),
            "gradient_error": self.error_norm / scale,
            "gradient_bias": float(np.linalg.norm(self.error_sum)) / scale,
        }


class ErrorMeter:
    """Gathers the error of rows that come some at a time; the result does not depend on how they come, but for rounding.

    At each temperature T, with p = softmax(logits / T):

    - mean_kl and p99_kl: KL(p(live) || p(stored)) in nats, the mean over rows and the 99th percentile.
    - gradient_error: mean |p(live) - p(stored)| / mean |1/C - p(live)|. The gradient of distillation in the student's
      logits is p(student) - p(teacher), up to a factor, so its error is the same for every student; it is given in
      units of the gradient of a student that knows nothing.
    - gradient_bias: |mean of p(live) - p(stored)| in the same units: what does not average out over rows.
    """

    def __init__(self, temperatures: Sequence[float]) -> None:
        self.tallies = {temperature: _Tally() for temperature in temperatures}
        self.largest_logit_error = 0.0
        """Of any class in any row."""

    def add(self, live: NDArray[np.float32], stored: NDArray[np.float32]) -> None:
        """Rows [N, C] as the teacher said them and as they will be read."""
        add_to_all([self], live, [stored])

    def table(self) -> ErrorTable:
        """Of at least one row."""
        return {temperature: tally.row() for temperature, tally in self.tallies.items()}


class NumberMeter:
    """As ErrorMeter, of outputs that are numbers and know no temperature: all at 1.

    - relative_rmse: root of the mean squared error over the variance of the teacher's own rows, output by output.
    - relative_largest: the largest error of all, over the standard deviation of that output.

    An output that is the same in every row is measured in its own unit.
    """

    def __init__(self) -> None:
        self.num_rows = 0
        self.sums: NDArray[np.float64] | float = 0.0
        """[3, D]: of the teacher's values, of their squares, and of the squared errors."""
        self.largest: NDArray[np.float64] | float = 0.0
        """[D]."""

    @property
    def largest_logit_error(self) -> float:
        return float(np.max(self.largest))

    def add(self, live: NDArray[np.float32], stored: NDArray[np.float32]) -> None:
        """Rows [N, D] as the teacher said them and as they will be read."""
        values = live.astype(np.float64)
        errors = stored.astype(np.float64) - values
        self.num_rows += len(values)
        self.sums = self.sums + np.stack((values.sum(axis=0), (values**2).sum(axis=0), (errors**2).sum(axis=0)))
        self.largest = np.maximum(self.largest, np.abs(errors).max(axis=0, initial=0.0))

    def table(self) -> ErrorTable:
        """Of at least one row."""
        mean, square, error = np.asarray(self.sums) / self.num_rows
        variance = np.maximum(square - mean**2, 0.0)
        variance[variance == 0] = 1.0
        rmse, largest = np.sqrt((error / variance).mean()), (self.largest / np.sqrt(variance)).max()
        return {1.0: {"relative_rmse": float(rmse), "relative_largest": float(largest)}}


Meter = ErrorMeter | NumberMeter


def meter_of(labels: LabelKind, temperatures: Sequence[float]) -> Meter:
    return ErrorMeter(temperatures) if labels == "classes" else NumberMeter()


def in_words(figures: Mapping[str, float], temperature: float) -> str:
    """The one that is held to a bound."""
    if "relative_rmse" in figures:
        return f"RMSE is {figures['relative_rmse']:.3g} of the outputs' spread"
    return f"mean KL is {figures['mean_kl']:.3g} nats at T={temperature:g}"


def add_to_all(meters: Sequence[Meter], live: NDArray[np.float32], stored: Sequence[NDArray[np.float32]]) -> None:
    """Each meter gets *live* [N, C] and its own of *stored*; the softmax of *live* is computed once for all of them."""
    soft = [(meter, each) for meter, each in zip(meters, stored, strict=True) if isinstance(meter, ErrorMeter)]
    for meter, each in zip(meters, stored, strict=True):
        if isinstance(meter, NumberMeter):
            meter.add(live, each)
    for part in _parts(*live.shape):
        differences = [(meter, _columns(each[part] - live[part])) for meter, each in soft]
        for meter, difference in differences:
            meter.largest_logit_error = max(meter.largest_logit_error, float(np.abs(difference).max(initial=0.0)))
        columns = _columns(live[part])
        for temperature in soft[0][0].tallies if soft else ():
            log_p = _log_softmax(columns / temperature)
            p = np.exp(log_p)
            for meter, difference in differences:
                meter.tallies[temperature].add(p, *_compare(log_p, p, difference / temperature))


def measure(
    live: NDArray[np.float32], stored: NDArray[np.float32], temperatures: Sequence[float], labels: LabelKind = "classes"
) -> ErrorTable:
    """What storing cost at each T; [N, C] twice, N >= 1."""
    meter = meter_of(labels, temperatures)
    meter.add(live, stored)
    return meter.table()


def no_error(temperatures: Sequence[float], labels: LabelKind = "classes") -> ErrorTable:
    """The table of a codec that stores every bit."""
    if labels == "numbers":
        return {1.0: {"relative_rmse": 0.0, "relative_largest": 0.0}}
    names = ("mean_kl", "p99_kl", "gradient_error", "gradient_bias")
    return {temperature: dict.fromkeys(names, 0.0) for temperature in temperatures}


def kl_rows(live: NDArray[np.float32], stored: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """KL(softmax(live / T) || softmax(stored / T)) of each row, in nats; [N, C] twice -> [N]."""
    kl = np.empty(len(live), dtype=np.float64)
    for part in _parts(*live.shape):
        log_p = _log_softmax(_columns(live[part]) / temperature)
        kl[part] = _compare(log_p, np.exp(log_p), _columns(stored[part] - live[part]) / temperature)[1]
    return kl


def _parts(num_rows: int, num_classes: int) -> Iterator[slice]:
    step = max(1, VALUES_AT_ONCE // max(1, num_classes))
    return (slice(start, start + step) for start in range(0, num_rows, step))


def _columns(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """[n, C] -> [C, n], laid out in memory so that its longer side is summed in one go."""
    doubles = rows.astype(np.float64).T
    return doubles if len(doubles) >= MANY_CLASSES else np.ascontiguousarray(doubles)


def _log_softmax(scaled: NDArray[np.float64]) -> NDArray[np.float64]:
    """[C, n], overwritten."""
    scaled -= scaled.max(axis=0)
    scaled -= np.log(np.exp(scaled).sum(axis=0))
    return scaled


def _compare(
    log_p: NDArray[np.float64], p: NDArray[np.float64], shift: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """q ~ p exp(shift) [C, n], in the place of *shift*, and KL(p || q) [n] = log sum_i p_i exp(shift_i) - sum_i p_i shift_i.

    The shift is taken about its mean under p, so that small errors keep their digits.
    """
    shift -= (p * shift).sum(axis=0)
    shift += log_p
    peak = shift.max(axis=0)
    shift -= peak
    np.exp(shift, out=shift)
    total = shift.sum(axis=0)
    shift /= total
    return shift, np.maximum(peak + np.log(total), 0.0)


def _norms(columns: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.einsum("cn,cn->n", columns, columns)).sum())
