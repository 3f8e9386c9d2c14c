"""From the rows of one batch to the one number that is minimised; nothing else reduces losses."""

from __future__ import annotations

from collections.abc import Sequence
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
class Rows:
    """A batch by its rows in the data set, int64 [B]."""

    host: Tensor
    device: Tensor
    """The same, where the model is."""
    labelled: Tensor | None
    """Places 0..B-1 of the labelled ones, on the device; None where all are."""


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
        self.labels = torch.from_numpy(labels).to(device)
        self.zero = torch.zeros((), device=device)

    def rows(self, batches: Sequence[NDArray[np.int64]]) -> list[Rows]:
        """Rows of the batches of an epoch, brought to the device at once so that no step waits for its own."""
        return [self._rows(batch) for batch in batches]

    def _rows(self, batch: NDArray[np.int64]) -> Rows:
        host, labelled = torch.from_numpy(batch), self.is_labelled[batch]
        places = None if labelled.all() else torch.from_numpy(np.flatnonzero(labelled)).to(self.device)
        return Rows(host, host.to(self.device), places)

    def __call__(self, rows: Rows, *, view: int, done: float) -> Losses:
        """Of *rows* seen as *view*, with the share *done* of the training behind."""
        logits = self._logits(rows.device, view)
        labels = self.labels.index_select(0, rows.device)
        hard, num_labelled = self._hard_part(logits, labels, rows.labelled)
        if self.objective is None:
            return Losses(hard, self.zero, hard, len(labels), num_labelled)
        distillation = self._distillation_part(logits, labels, rows, view, done)
        alpha = self.objective.alpha
        return Losses(alpha * distillation + (1 - alpha) * hard, distillation, hard, len(labels), num_labelled)

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

    def _hard_part(self, logits: Tensor, labels: Tensor, labelled: Tensor | None) -> tuple[Tensor, int]:
        """Mean over the labelled rows, and how many they are."""
        if labelled is not None:
            logits, labels = logits.index_select(0, labelled), labels.index_select(0, labelled)
        if not len(labels):
            return self.zero, 0
        losses = self.workload.hard_label_loss(logits, labels, label_smoothing=self.params.label_smoothing)
        return losses.mean(), len(labels)

    def _distillation_part(self, logits: Tensor, labels: Tensor, rows: Rows, view: int, done: float) -> Tensor:
        assert self.objective is not None
        assert self.targets is not None
        said = self.targets.gather(rows.host, view).to(self.device)
        batch = Batch(labels=labels, labelled=labels != UNLABELLED, sample_index=rows.device, progress=done)
        return self.objective(Signals(logits), Signals(said), batch).mean()
