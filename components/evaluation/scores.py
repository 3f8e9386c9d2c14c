"""What is reported of one arm, and of the difference between two arms on the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.contracts import Workload
from components.evaluation import fidelity, metrics, statistics
from components.evaluation.metrics import Floats
from components.params import Params

Logits = NDArray[np.float32]
Labels = NDArray[np.int64]


def score(logits: Logits, labels: Labels, teacher_logits: Logits | None, params: Params) -> dict[str, float]:
    """The workload's metrics, the interval of the accuracy, and the fidelity to a teacher if its logits are given.

    logits [N, C], labels [N] without UNLABELLED, teacher_logits [N, C] or None.
    """
    workload: Workload = params.workload.build()
    values = {**workload.metrics(logits, labels), **_calibration(logits, labels, params)}
    interval = _accuracy_interval(logits, labels, params)
    values |= {"accuracy_low": interval.low, "accuracy_high": interval.high}
    if teacher_logits is not None:
        values["agreement_with_teacher"] = fidelity.agreement(logits, teacher_logits)
        values["kl_to_teacher"] = fidelity.mean_kl(teacher_logits, logits)
    return values


def compare(first: Logits, second: Logits, labels: Labels, params: Params) -> dict[str, Any]:
    """first - second, paired row by row: accuracy and NLL with bootstrap intervals, and the exact McNemar p-value."""
    first_right, second_right = metrics.right(first, labels), metrics.right(second, labels)
    first_only = int((first_right & ~second_right).sum())
    second_only = int((second_right & ~first_right).sum())
    return {
        "accuracy": _difference(first_right.astype(np.float64), second_right.astype(np.float64), params),
        "nll": _difference(metrics.nll_rows(first, labels), metrics.nll_rows(second, labels), params),
        "first_only_right": first_only,
        "second_only_right": second_only,
        "mcnemar_p_value": statistics.mcnemar_p_value(first_only, second_only),
    }


def _calibration(logits: Logits, labels: Labels, params: Params) -> Mapping[str, float]:
    bins = params.evaluate.calibration_bins
    return {"ece": metrics.expected_calibration_error(logits, labels, bins=bins)}


def _accuracy_interval(logits: Logits, labels: Labels, params: Params) -> statistics.Interval:
    right = metrics.right(logits, labels)
    return statistics.wilson_interval(int(right.sum()), len(right), confidence=params.evaluate.confidence)


def _difference(first: Floats, second: Floats, params: Params) -> dict[str, float]:
    chosen = params.evaluate
    interval = statistics.paired_bootstrap_interval(
        first, second, confidence=chosen.confidence, resamples=chosen.bootstrap_resamples, seed=chosen.seed
    )
    return {"difference": float((first - second).mean()), "low": interval.low, "high": interval.high}
