"""From the rows of one batch to the one number that is minimised; nothing else reduces losses."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from components.contracts import UNLABELLED, Batch, ClosedForm, Mixture, Objective, Signals, Workload
from components.params import TrainParams


class Views(Protocol):
    """Makes views of samples; components/views.py has the real one."""

    def batch(self, rows: Tensor, view: int) -> Tensor:
        """Rows of the data set, int64 [B] -> uint8 [B, *S]."""
        ...

    def mixture(self, rows: Tensor, view: int) -> Mixture | None:
        """What that view of each is made of; None where it is made of its own sample alone."""
        ...


class Targets(Protocol):
    """What the teacher said; components/soft_targets/reader.py has the real one."""

    def places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where rows of the data set are stored, int64 [N] -> int64 [N]; BadInputError if one is not there."""
        ...

    def take(self, places: NDArray[np.int64], view: int) -> Tensor:
        """What `places` found, int64 [B] -> float32 logits [B, C], valid until the next call."""
        ...

    def expect(self, places: NDArray[np.int64], view: int) -> None:
        """Fetch from a slow disk what will be taken soon."""
        ...


@dataclass(frozen=True, slots=True)
class Rows:
    """A batch, brought to where the model is before its epoch begins."""

    index: Tensor
    """[B] int64, in the data set."""
    labels: Tensor
    """[B] int64; UNLABELLED where there is none."""
    labelled: Tensor
    """[B] bool."""
    labelled_places: Tensor | None
    """Places 0..B-1 of the labelled ones; None where all are."""
    stored: NDArray[np.int64]
    """[B], where their soft targets lie."""


@dataclass(frozen=True, slots=True)
class Losses:
    """Of one batch; scalars on the device that no gradient flows through."""

    distillation: Tensor
    """Mean over all rows."""
    hard: Tensor
    """Mean over the labelled rows, 0 if there are none."""
    num_rows: int
    num_labelled: int
    roots: tuple[Tensor, ...]
    """Where the gradient starts: losses of rows, or logits."""
    gradients: tuple[Tensor, ...]
    """Of the number that is minimised, on each of the roots."""

    def backward(self) -> None:
        """Add the gradient of the number that is minimised to that of the weights.

        The mean of each part and their weighted sum are only measured: in a graph they would be seven more nodes.
        """
        torch.autograd.backward(self.roots, self.gradients)


class _Share(NamedTuple):
    """What every row counts in the number that is minimised."""

    each: Tensor
    """[M], the same M times."""
    one: Tensor
    """The same as a scalar."""


class _Part(NamedTuple):
    """One part of the loss."""

    losses: Tensor
    """[M], one a row."""
    root: Tensor
    """The same in the graph, or the logits that *slope* is a gradient on."""
    slope: Tensor | None = None
    """[B, C], of each row's loss."""

    def gradient(self, share: _Share) -> Tensor:
        """On the root."""
        return share.each if self.slope is None else self.slope.mul_(share.one)


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
        self.alpha = objective.alpha if objective else 0.0
        self.closed_form = objective if isinstance(objective, ClosedForm) else None
        self.zero = torch.zeros((), device=device)
        self.nothing = _Part(losses=torch.empty(0, device=device), root=torch.empty(0, device=device))
        self.shares: dict[tuple[int, torch.dtype, float], _Share] = {}

    def rows(self, batches: Sequence[NDArray[np.int64]]) -> list[Rows]:
        """The batches of an epoch, brought to the device and looked up at once so that no step waits for its own."""
        rows, sizes = np.concatenate(batches), [len(batch) for batch in batches]
        index = torch.from_numpy(rows).to(self.device)
        labels = self.labels.index_select(0, index)
        stored = self.targets.places(rows) if self.targets else rows
        columns = (column.split(sizes) for column in (index, labels, labels != UNLABELLED))
        places = [self._labelled_places(batch) for batch in batches]
        return [Rows(*parts) for parts in zip(*columns, places, np.split(stored, np.cumsum(sizes[:-1])), strict=True)]

    def _labelled_places(self, batch: NDArray[np.int64]) -> Tensor | None:
        labelled = self.is_labelled[batch]
        return None if labelled.all() else torch.from_numpy(np.flatnonzero(labelled)).to(self.device)

    def expect(self, batches: Sequence[Rows], *, view: int) -> None:
        """Announce batches that are about to come."""
        if self.objective and self.targets and batches:
            self.targets.expect(np.concatenate([rows.stored for rows in batches]), view)

    def __call__(self, rows: Rows, *, view: int, done: float) -> Losses:
        """Of *rows* seen as *view*, with the share *done* of the training behind."""
        logits = self._logits(rows.index, view)
        hard = self._hard_part(logits, rows, view)
        distillation = self._distillation_part(logits, rows, view, done)
        weighted = ((distillation, self.alpha), (hard, 1 - self.alpha))
        counting = [
            (part, self._share(part.losses, weight)) for part, weight in weighted if weight and len(part.losses)
        ]
        return Losses(
            distillation=self._mean(distillation.losses),
            hard=self._mean(hard.losses),
            num_rows=len(rows.labels),
            num_labelled=len(hard.losses),
            roots=tuple(part.root for part, _ in counting),
            gradients=tuple(part.gradient(share) for part, share in counting),
        )

    def total(self, distillation: float, hard: float) -> float:
        """The number that is minimised, from the means of its parts."""
        return self.alpha * distillation + (1 - self.alpha) * hard

    def _mean(self, losses: Tensor) -> Tensor:
        return torch.dot(losses.detach(), self._share(losses, 1.0).each) if len(losses) else self.zero

    def _share(self, losses: Tensor, weight: float) -> _Share:
        """*weight*, divided among so many losses; made once for each size of batch."""
        asked = (len(losses), losses.dtype, weight)
        if asked not in self.shares:
            each = torch.full_like(losses, weight / len(losses), requires_grad=False)
            self.shares[asked] = _Share(each, each[0])
        return self.shares[asked]

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

    def _hard_part(self, logits: Tensor, rows: Rows, view: int) -> _Part:
        """Losses of the rows whose labels are all known: their own, and their partners' where they are mixed."""
        mixture = self.views.mixture(rows.index, view)
        if mixture is not None:
            return self._mixed_part(logits, rows, mixture)
        logits, labels = _at(rows.labelled_places, logits, rows.labels)
        return self._part(self._hard_losses(logits, labels))

    def _mixed_part(self, logits: Tensor, rows: Rows, mixture: Mixture) -> _Part:
        """Both losses, each by the share that its sample has in the view (Zhang et al. 2017, Yun et al. 2019)."""
        partners = self.labels.index_select(0, mixture.partners)
        known = None if self.all_labelled else (rows.labelled & (partners != UNLABELLED)).nonzero().flatten()
        logits, labels, partners, share = _at(known, logits, rows.labels, partners, mixture.share)
        losses = share * self._hard_losses(logits, labels) + (1 - share) * self._hard_losses(logits, partners)
        return self._part(losses)

    def _hard_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        return self.workload.hard_label_loss(logits, labels, label_smoothing=self.params.label_smoothing)

    def _part(self, losses: Tensor) -> _Part:
        return _Part(losses, root=losses) if len(losses) else self.nothing

    def _distillation_part(self, logits: Tensor, rows: Rows, view: int, done: float) -> _Part:
        """Losses of all rows; none without an objective."""
        if self.objective is None:
            return self.nothing
        assert self.targets is not None
        said = Signals(self.targets.take(rows.stored, view).to(self.device))
        batch = Batch(labels=rows.labels, labelled=rows.labelled, sample_index=rows.index, progress=done)
        if self.closed_form:
            losses, slope = self.closed_form.rows_and_gradient(Signals(logits.detach()), said, batch)
            return _Part(losses, root=logits, slope=slope)
        losses = self.objective(Signals(logits), said, batch)
        return _Part(losses, root=losses)


def _at(places: Tensor | None, *columns: Tensor) -> tuple[Tensor, ...]:
    """Each of *columns* [B, ...] at *places*; all of it where there are none."""
    return columns if places is None else tuple(column.index_select(0, places) for column in columns)
