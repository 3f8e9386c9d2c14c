"""Metrics of predicted numbers: numpy, float64, one pass over the rows.

Everywhere: outputs [N, D] and labels [N, D] in the labels' own unit, all of them there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.errors import BadInputError

Floats = NDArray[np.float64]
Numbers = NDArray[np.floating[Any]]


def squared_errors(outputs: Numbers, labels: Numbers) -> Floats:
    """[N], the mean over D of each row's squared errors."""
    return np.asarray((_errors(outputs, labels) ** 2).mean(axis=1))


def absolute_errors(outputs: Numbers, labels: Numbers) -> Floats:
    """[N], the mean over D of each row's absolute errors."""
    return np.asarray(np.abs(_errors(outputs, labels)).mean(axis=1))


def root_mean_squared_error(outputs: Numbers, labels: Numbers) -> float:
    return float(np.sqrt(squared_errors(outputs, labels).mean()))


def mean_absolute_error(outputs: Numbers, labels: Numbers) -> float:
    return float(absolute_errors(outputs, labels).mean())


def r_squared(outputs: Numbers, labels: Numbers) -> float:
    """1 - squared error / squared deviation from the mean of these labels, averaged over D: the share that is explained.

    Below zero where that mean would predict better. Of labels that are all the same: 1 if they are met exactly, else 0.
    """
    errors = (_errors(outputs, labels) ** 2).sum(axis=0)
    wide = labels.astype(np.float64)
    deviations = ((wide - wide.mean(axis=0)) ** 2).sum(axis=0)
    constant = np.where(errors == 0, 1.0, 0.0)
    explained = 1 - np.divide(errors, deviations, out=np.zeros_like(errors), where=deviations > 0)
    return float(np.where(deviations > 0, explained, constant).mean())


def _errors(outputs: Numbers, labels: Numbers) -> Floats:
    if outputs.ndim != 2 or outputs.shape != labels.shape:
        raise BadInputError(f"outputs and labels must both be [N, D]; they are {outputs.shape} and {labels.shape}")
    if not len(labels):
        raise BadInputError("there are no labelled rows to measure on")
    return outputs.astype(np.float64) - labels.astype(np.float64)
