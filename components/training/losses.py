"""From the rows of one batch to the one number that is minimised; nothing else reduces losses."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from components.contracts import UNLABELLED, Batch, Objective, Signals, Workload
from components.params import TrainParams


class Views(Protocol):
    """Makes views of samples; components/views.py has the real one."""

    def batch(self, rows: Tensor, view: int) -> Tensor:
        """Rows of the data set, int64 [B] -> uint8 [B, *S]."""
        ...


class Targets(Protocol):
    """What the teacher said; components/soft_targets/reader.py has the real one."""

    def gather(self, rows: Tensor, view: int) -> Tensor:
        """Rows of the data set, int64 [B] -> float32 logits [B, C], valid until the next call."""
        ...


@dataclass(frozen=True, slots=True)
class Losses:
    """Of one batch; scalars on the device."""

    total: Tensor
    distillation: Tensor
    """Mean over all rows."""
    hard: Tensor
    """Mean over the labelled rows, 0 if there are none."""
    num_rows: int
    num_labelled: int


class BatchLoss:
    """total = alpha * distillation + (1 - alpha) * hard; the hard part alone without an objective."""

    def __init__(
        self,
        *,
        model: nn.Module,
        labels: NDArray[np.int64],
        workload: Workload,
        params: TrainParams,
        views: Views,
        device: torch.device,
        objective: Objective | None,
        targets: Targets | None,
    ) -> None:
        self.model, self.workload, self.params, self.device = model, workload, params, device
        self.views, self.objective, self.targets = views, objective, targets
        self.is_labelled = labels != UNLABELLED
        self.all_labelled = bool(self.is_labelled.all())
        self.labels = torch.from_numpy(labels).to(device)
        self.labelled = self.labels != UNLABELLED

    def __call__(self, rows: NDArray[np.int64], *, view: int, done: float) -> Losses:
        """Of data set *rows* [B], seen as *view*, with the share *done* of the training behind."""
        index = torch.from_numpy(rows).to(self.device)
        logits = self._logits(index, view)
        hard, num_labelled = self._hard_part(logits, rows, index)
        if self.objective is None:
            return Losses(hard, torch.zeros_like(hard), hard, len(rows), num_labelled)
        distillation = self._distillation_part(logits, rows, index, view, done)
        alpha = self.objective.alpha
        return Losses(alpha * distillation + (1 - alpha) * hard, distillation, hard, len(rows), num_labelled)

    def _logits(self, index: Tensor, view: int) -> Tensor:
        """Float32 [B, C], whatever the precision of the forward pass."""
        samples = self.views.batch(index, view)
        if self.params.channels_last and samples.ndim == 4:
            samples = samples.contiguous(memory_format=torch.channels_last)
        with self._autocast():
            logits: Tensor = self.model(samples)
        return logits.float()

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.params.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()

    def _hard_part(self, logits: Tensor, rows: NDArray[np.int64], index: Tensor) -> tuple[Tensor, int]:
        labels = self.labels.index_select(0, index)
        if not self.all_labelled:
            # Found on the host, so that an accelerator need not be waited for.
            places = np.flatnonzero(self.is_labelled[rows])
            if not len(places):
                return logits.new_zeros(()), 0
            chosen = torch.from_numpy(places).to(self.device)
            logits, labels = logits.index_select(0, chosen), labels.index_select(0, chosen)
        losses = self.workload.hard_label_loss(logits, labels, label_smoothing=self.params.label_smoothing)
        return losses.mean(), len(labels)

    def _distillation_part(
        self, logits: Tensor, rows: NDArray[np.int64], index: Tensor, view: int, done: float
    ) -> Tensor:
        assert self.objective is not None
        assert self.targets is not None
        said = self.targets.gather(torch.from_numpy(rows), view).to(self.device)
        batch = Batch(
            labels=self.labels.index_select(0, index),
            labelled=self.labelled.index_select(0, index),
            sample_index=index,
            progress=done,
        )
        return self.objective(Signals(logits), Signals(said), batch).mean()
