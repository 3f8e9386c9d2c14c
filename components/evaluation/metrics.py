"""Metrics of a classifier from its raw logits: numpy, float64, one pass over the rows.

Everywhere: logits [N, C] before softmax, labels [N] in 0..C-1, all rows labelled. Logits of a narrower
type are widened first, so that a metric does not depend on the type that the rows were stored in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.errors import BadInputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Logits = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class ReliabilityBins:
    """Rows sorted into equal-width bins (lower, upper] of the probability of the predicted class."""

    lower: Floats
    """[bins]."""
    upper: Floats
    """[bins]."""
    count: Ints
    """[bins], rows in the bin."""
    confidence: Floats
    """[bins], mean probability of the predicted class; 0 in an empty bin."""
    accuracy: Floats
    """[bins], share of right predictions; 0 in an empty bin."""

    @property
    def expected_calibration_error(self) -> float:
        return float((self.count / self.count.sum() * np.abs(self.accuracy - self.confidence)).sum())


def log_softmax(logits: Logits, *, temperature: float = 1.0) -> Floats:
    """[N, C] -> [N, C] log-probabilities of logits / temperature, in nats."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    shifted = scaled - scaled.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), dtype=np.float64)


def accuracy(logits: Logits, labels: Labels) -> float:
    """Share of rows whose largest logit is the label's; of equal logits the first counts."""
    return float(right(logits, labels).mean())


def right(logits: Logits, labels: Labels) -> NDArray[np.bool_]:
    """[N], whether each row's prediction is its label."""
    _check(logits, labels)
    return np.asarray(np.argmax(logits, axis=1) == labels)


def negative_log_likelihood(logits: Logits, labels: Labels) -> float:
    """Mean of -log p(label) in nats: the proper scoring rule that softmax classifiers are trained on."""
    return float(nll_rows(logits, labels).mean())


def nll_rows(logits: Logits, labels: Labels) -> Floats:
    """[N], -log p(label) of each row in nats."""
    _check(logits, labels)
    return np.asarray(-log_softmax(logits)[np.arange(len(labels)), labels], dtype=np.float64)


def expected_calibration_error(logits: Logits, labels: Labels, bins: int = 15) -> float:
    """Mean |accuracy - confidence| over equal-width confidence bins, weighted by their rows; 0..1.

    Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning"
    (AAAI 2015), with the 15 bins of Guo et al., "On calibration of modern neural networks" (ICML 2017).
    It is biased upward on small samples: empty or thin bins add their noise.
    """
    return reliability_bins(logits, labels, bins=bins).expected_calibration_error


def reliability_bins(logits: Logits, labels: Labels, bins: int = 15) -> ReliabilityBins:
    """What a reliability diagram draws (DeGroot and Fienberg, 1983), for the predicted class of each row."""
    correct = right(logits, labels)
    confidence = np.exp(log_softmax(logits).max(axis=1))
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    rows = np.maximum(count, 1)
    return ReliabilityBins(
        lower=edges[:-1],
        upper=edges[1:],
        count=count.astype(np.int64),
        confidence=np.bincount(place, weights=confidence, minlength=bins) / rows,
        accuracy=np.bincount(place, weights=correct, minlength=bins) / rows,
    )


def confusion_matrix(logits: Logits, labels: Labels) -> Ints:
    """[C, C] counts: row = class, column = predicted class."""
    _check(logits, labels)
    classes = logits.shape[1]
    cells = np.asarray(labels, dtype=np.int64) * classes + np.argmax(logits, axis=1)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def per_class_accuracy(confusion: Ints) -> Floats:
    """[C, C] counts -> [C] share of each class's rows that were recognised (recall); NaN for a class without rows."""
    rows = confusion.sum(axis=1)
    return np.where(rows > 0, np.diag(confusion) / np.maximum(rows, 1), np.nan)


def _check(logits: Logits, labels: Labels) -> None:
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise BadInputError(f"logits must be [N, C] and labels [N]; they are {logits.shape} and {labels.shape}")
    if not len(labels):
        raise BadInputError("there are no labelled rows to measure on")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise BadInputError(
            f"labels must be 0..{logits.shape[1] - 1} (there are {logits.shape[1]} logits a row); "
            f"they run from {labels.min()} to {labels.max()}"
        )
