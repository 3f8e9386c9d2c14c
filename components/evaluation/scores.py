"""What is reported of one arm, and of the difference between two arms on the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.contracts import Measure, Workload
from components.evaluation import statistics
from components.params import EvaluateParams

Outputs = NDArray[np.float32]
Floats = NDArray[np.float64]


def score(
    workload: Workload, outputs: Outputs, labels: NDArray[Any], teacher: Outputs | None, chosen: EvaluateParams
) -> dict[str, float]:
    """The workload's metrics, the interval of the primary one, and the fidelity to a teacher if its outputs are given.

    outputs [N, C], labels of all N rows, teacher [N, C] or None.
    """
    primary = workload.primary_metric
    interval = _interval(workload.measures[primary], workload.row_scores(outputs, labels)[primary], chosen)
    values = {**workload.metrics(outputs, labels), f"{primary}_low": interval.low, f"{primary}_high": interval.high}
    return values if teacher is None else {**values, **workload.fidelity(outputs, teacher)}


def compare(
    workload: Workload, first: Outputs, second: Outputs, labels: NDArray[Any], chosen: EvaluateParams
) -> dict[str, Any]:
    """first - second, paired row by row: each metric that has row scores, with its bootstrap interval.

    Where the primary metric is a share of right rows, also the discordant rows and the exact McNemar p-value.
    """
    ours, theirs = workload.row_scores(first, labels), workload.row_scores(second, labels)
    differences = {name: _difference(workload.measures[name], ours[name], theirs[name], chosen) for name in ours}
    primary = workload.primary_metric
    if workload.measures[primary].of_rows != "share":
        return differences
    return {**differences, **_discordant(ours[primary], theirs[primary])}


def _interval(measure: Measure, scores: Floats, chosen: EvaluateParams) -> statistics.Interval:
    if measure.of_rows == "share":
        return statistics.wilson_interval(int(scores.sum()), len(scores), confidence=chosen.confidence)
    return statistics.bootstrap_interval(scores, root=measure.of_rows == "root_mean", **_bootstrap(chosen))


def _difference(measure: Measure, first: Floats, second: Floats, chosen: EvaluateParams) -> dict[str, float]:
    root = measure.of_rows == "root_mean"
    interval = statistics.paired_bootstrap_interval(first, second, root=root, **_bootstrap(chosen))
    difference = sqrt(first.mean()) - sqrt(second.mean()) if root else float((first - second).mean())
    return {"difference": difference, "low": interval.low, "high": interval.high}


def _discordant(first_right: Floats, second_right: Floats) -> Mapping[str, float]:
    first_only, second_only = int((first_right > second_right).sum()), int((second_right > first_right).sum())
    return {
        "first_only_right": first_only,
        "second_only_right": second_only,
        "mcnemar_p_value": statistics.mcnemar_p_value(first_only, second_only),
    }


def _bootstrap(chosen: EvaluateParams) -> dict[str, Any]:
    return {"confidence": chosen.confidence, "resamples": chosen.bootstrap_resamples, "seed": chosen.seed}
