"""Measures a model on the labelled validation rows; the test split is not its business."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from components.contracts import Workload, is_labelled
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
        return {"loss": self._loss(logits), **self._metrics(logits)}

    def _loss(self, logits: NDArray[np.float32]) -> float:
        losses = self.workload.hard_label_loss(
            torch.from_numpy(logits), torch.from_numpy(self.labels), label_smoothing=0.0
        )
        return losses.mean().item()

    def _metrics(self, logits: NDArray[np.float32]) -> Mapping[str, float]:
        return {name: float(value) for name, value in self.workload.metrics(logits, self.labels).items()}
