"""From the rows of one batch to the one number that is minimised; nothing else reduces losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from components.contracts import Batch, ClosedForm, Mixture, Objective, Signals, Workload, is_labelled
from components.params import TrainParams
from components.schedules import is_fixed, value_at
from components.training.taps import FeatureTeacher, Tapped


class Views(Protocol):
    """Makes views of samples; components/views.py has the real one."""

    def batch(self, rows: Tensor, view: int) -> Tensor:
        """Rows of the data set, int64 [B] -> [B, *S] as stored."""
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
    """[B] int64, or [B, D] float32 where labels are numbers."""
    labelled: Tensor
    """[B] bool."""
    labelled_places: Tensor | None
    """Places 0..B-1 of the labelled ones; None where all are."""
    place: Tensor
    """[B] int64, among the rows trained on."""
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
        if self.roots:  # a schedule may let every part weigh nothing for a while
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
    """total = alpha * weight * distillation + (1 - alpha) * hard; the hard part alone without an objective."""

    def __init__(
        self,
        *,
        model: nn.Module,
        labels: NDArray[Any],
        train_rows: NDArray[np.int64],
        workload: Workload,
        params: TrainParams,
        views: Views,
        device: torch.device,
        objective: Objective | None,
        targets: Targets | None,
        teacher: FeatureTeacher | None = None,
    ) -> None:
        self.model, self.workload, self.params, self.device = model, workload, params, device
        self.views, self.objective, self.teacher = views, objective, teacher
        self.targets = targets if objective and "logits" in objective.needs else None
        self.student = Tapped(model, objective.student_taps if objective else (), precision=params.precision)
        self.train_rows = np.sort(train_rows)
        self.is_labelled = is_labelled(labels)
        self.known = torch.from_numpy(self.is_labelled).to(device)
        self.all_labelled = bool(self.is_labelled.all())
        self.labels = torch.from_numpy(labels).to(device)
        self.alpha = objective.alpha if objective else 0.0
        self.weight = objective.weight if objective else 1.0
        self.is_fixed = is_fixed(self.alpha) and is_fixed(self.weight)
        self.closed_form = objective if isinstance(objective, ClosedForm) else None
        self.zero = torch.zeros((), device=device)
        self.nothing = _Part(losses=torch.empty(0, device=device), root=torch.empty(0, device=device))
        self.silence = torch.empty(0, device=device)
        self.shares: dict[tuple[int, torch.dtype, float], _Share] = {}

    def rows(self, batches: Sequence[NDArray[np.int64]]) -> list[Rows]:
        """The batches of an epoch, brought to the device and looked up at once so that no step waits for its own."""
        rows, sizes = np.concatenate(batches), [len(batch) for batch in batches]
        index = torch.from_numpy(rows).to(self.device)
        labels = self.labels.index_select(0, index)
        stored = self.targets.places(rows) if self.targets else rows
        place = torch.from_numpy(np.searchsorted(self.train_rows, rows)).to(self.device)
        columns = (column.split(sizes) for column in (index, labels, self.known.index_select(0, index)))
        labelled = [self._labelled_places(batch) for batch in batches]
        parts = (*columns, labelled, place.split(sizes), np.split(stored, np.cumsum(sizes[:-1])))
        return [Rows(*batch) for batch in zip(*parts, strict=True)]

    def _labelled_places(self, batch: NDArray[np.int64]) -> Tensor | None:
        labelled = self.is_labelled[batch]
        return None if labelled.all() else torch.from_numpy(np.flatnonzero(labelled)).to(self.device)

    def expect(self, batches: Sequence[Rows], *, view: int) -> None:
        """Announce batches that are about to come."""
        if self.objective and self.targets and batches:
            self.targets.expect(np.concatenate([rows.stored for rows in batches]), view)

    def __call__(self, rows: Rows, *, view: int, done: float) -> Losses:
        """Of *rows* seen as *view*, with the share *done* of the training behind."""
        samples = self._samples(rows.index, view)
        said = self.student(samples)
        hard = self._hard_part(said.logits, rows, view)
        distillation = self._distillation_part(said, samples, rows, view, done)
        soft_weight, hard_weight = self._weights(done)
        weighted = ((distillation, soft_weight), (hard, hard_weight))
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

    def total(self, distillation: float, hard: float, *, done: float) -> float:
        """The number that is minimised, from the means of its parts."""
        soft_weight, hard_weight = self._weights(done)
        return soft_weight * distillation + hard_weight * hard

    def _weights(self, done: float) -> tuple[float, float]:
        alpha = value_at(self.alpha, done)
        return alpha * value_at(self.weight, done), 1 - alpha

    def _mean(self, losses: Tensor) -> Tensor:
        return torch.dot(losses.detach(), self._share(losses, 1.0).each) if len(losses) else self.zero

    def _share(self, losses: Tensor, weight: float) -> _Share:
        """*weight*, divided among so many losses; made once for each size of batch where weights are fixed."""
        asked = (len(losses), losses.dtype, weight)
        found = self.shares.get(asked)
        if found is None:
            each = torch.full_like(losses, weight / len(losses), requires_grad=False)
            found = _Share(each, each[0])
            if self.is_fixed or weight == 1.0:
                self.shares[asked] = found
        return found

    def _samples(self, index: Tensor, view: int) -> Tensor:
        samples = self.views.batch(index, view)
        if self.params.channels_last and samples.ndim == 4:
            samples = samples.contiguous(memory_format=torch.channels_last)
        return samples

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
        known = None if self.all_labelled else self._both_known(rows, mixture)
        logits, labels, partners, share = _at(known, logits, rows.labels, partners, mixture.share)
        losses = share * self._hard_losses(logits, labels) + (1 - share) * self._hard_losses(logits, partners)
        return self._part(losses)

    def _both_known(self, rows: Rows, mixture: Mixture) -> Tensor:
        return (rows.labelled & self.known.index_select(0, mixture.partners)).nonzero().flatten()

    def _hard_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        return self.workload.hard_label_loss(logits, labels, label_smoothing=self.params.label_smoothing)

    def _part(self, losses: Tensor) -> _Part:
        return _Part(losses, root=losses) if len(losses) else self.nothing

    def _distillation_part(self, said: Signals, samples: Tensor, rows: Rows, view: int, done: float) -> _Part:
        """Losses of all rows; none without an objective."""
        if self.objective is None:
            return self.nothing
        teacher = self._of_the_teacher(samples, rows, view)
        batch = Batch(rows.labels, rows.labelled, sample_index=rows.index, place=rows.place, progress=done)
        if self.closed_form:
            losses, slope = self.closed_form.rows_and_gradient(Signals(said.logits.detach()), teacher, batch)
            return _Part(losses, root=said.logits, slope=slope)
        losses = self.objective(said, teacher, batch)
        return _Part(losses, root=losses)

    def _of_the_teacher(self, samples: Tensor, rows: Rows, view: int) -> Signals:
        """Logits from the store and features live, as far as the objective needs them."""
        stored = self.targets.take(rows.stored, view).to(self.device) if self.targets else None
        features = self.teacher.features(samples) if self.teacher else {}
        return Signals(self.silence.new_empty(len(rows.labels), 0) if stored is None else stored, features)


def _at(places: Tensor | None, *columns: Tensor) -> tuple[Tensor, ...]:
    """Each of *columns* [B, ...] at *places*; all of it where there are none."""
    return columns if places is None else tuple(column.index_select(0, places) for column in columns)
