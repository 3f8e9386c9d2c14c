"""One temperature for a whole model, fitted after training."""

from __future__ import annotations

from math import exp, log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.evaluation.metrics import negative_log_likelihood

LOWEST, HIGHEST = 0.02, 50.0


def fitted_temperature(logits: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]) -> float:
    """The T in 0.02..50 of least mean NLL of softmax(logits / T); [N, C], [N] of rows that no metric is taken on.

    Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks" (ICML 2017). Accuracy stays as it was. The
    NLL is convex in 1/T, so that the one minimum is found.
    """
    from scipy.optimize import minimize_scalar

    wide = np.asarray(logits, dtype=np.float64)
    found = minimize_scalar(
        lambda log_t: negative_log_likelihood(wide / exp(log_t), labels),
        bounds=(log(LOWEST), log(HIGHEST)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return exp(float(found.x))
