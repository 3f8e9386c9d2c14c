"""Measures a model on the labelled validation rows; the test split is not its business."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from components.contracts import LabelKind, Workload, is_labelled
from components.errors import TrainingDivergedError
from components.evaluation.predict import predict_logits


class Judge:
    """Holds samples [N, *S], labels of one LabelKind and the rows that count."""

    def __init__(
        self,
        samples: NDArray[Any],
        labels: NDArray[Any],
        validation_rows: NDArray[np.int64],
        workload: Workload,
    ) -> None:
        self.samples, self.workload = samples, workload
        self.rows = validation_rows[is_labelled(labels[validation_rows])]
        self.labels = labels[self.rows]

    @property
    def num_rows(self) -> int:
        return len(self.rows)

    def measure(self, model: nn.Module) -> dict[str, float]:
        """`loss` (hard labels, no smoothing) and the workload's metrics; empty where no validation row has a label.

        *model* is in eval mode. RefusedError when a logit is not finite.
        """
        if not self.num_rows:
            return {}
        logits = predict_logits(model, self.samples, self.rows)
        return self._measured(logits)

    def refuse_a_constant(self, found: Mapping[str, float], num_outputs: int) -> None:
        """TrainingDivergedError where *found*, as `measure` gives it, is no better than one answer for all samples."""
        if not self.num_rows:
            return
        constant = self._measured(best_constant(self.labels, num_outputs, kind=self.workload.labels))
        primary = self.workload.primary_metric
        sign = 1 if self.workload.measures[primary].better == "higher" else -1
        if sign * found[primary] <= sign * constant[primary] and found["loss"] >= constant["loss"]:
            raise TrainingDivergedError(
                f"the model collapsed: after training its {primary} on the validation split is {found[primary]:.4g}, and "
                f"the same answer for every sample would have {constant[primary]:.4g}. Lower train.optimizer.learning_rate, "
                "or the objective's weight"
            )

    def _measured(self, logits: NDArray[np.float32]) -> dict[str, float]:
        return {"loss": self._loss(logits), **self._metrics(logits)}

    def _loss(self, logits: NDArray[np.float32]) -> float:
        losses = self.workload.hard_label_loss(
            torch.from_numpy(logits), torch.from_numpy(self.labels), label_smoothing=0.0
        )
        return losses.mean().item()

    def _metrics(self, logits: NDArray[np.float32]) -> Mapping[str, float]:
        return {name: float(value) for name, value in self.workload.metrics(logits, self.labels).items()}


def best_constant(labels: NDArray[Any], num_outputs: int, *, kind: LabelKind) -> NDArray[np.float32]:
    """[N, C] or [N, D]: the log shares of the classes, or the mean, for every row of *labels*."""
    if kind == "numbers":
        return np.tile(labels.mean(axis=0, keepdims=True), (len(labels), 1)).astype(np.float32)
    shares = np.bincount(labels, minlength=num_outputs) / len(labels)
    # A class that does not occur keeps a finite logit.
    answer = np.log(np.maximum(shares, 1e-9)).astype(np.float32)
    return np.tile(answer, (len(labels), 1))
