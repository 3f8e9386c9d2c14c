"""Contrast with remembered embeddings of other samples."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from components.contracts import UNLABELLED, Batch, Signals
from components.errors import BadInputError
from components.objectives._base import OnFeatures, Reduction
from components.schedules import Scheduled

EPS = 1e-7
"""As in the authors' code."""
PRODUCTS_FOR_ONE_LOOKUP = 64
"""So many rows of a bank are multiplied in the time in which one row is fetched from a random place, as measured."""


class Contrast(OnFeatures):
    """Each model's embedding tells its sample, as the other model remembers it, from *num_negatives* other samples.

    The sum of two noise-contrastive losses, over a bank of the student's and a bank of the teacher's embeddings [n, D]
    of the n samples trained on. Both embeddings are learnt.
    """

    reduction: Reduction = "batch"
    student_bank: Tensor
    teacher_bank: Tensor
    student_scale: Tensor
    teacher_scale: Tensor

    def __init__(
        self,
        pair: tuple[str, str],
        widths: tuple[int, int],
        labels: NDArray[Any],
        *,
        embedding_width: int,
        num_negatives: int,
        temperature: float,
        momentum: float,
        alpha: Scheduled,
        weight: Scheduled,
    ) -> None:
        """*widths* of student's and teacher's flattened features; *labels* [n, ...] of the samples trained on."""
        super().__init__([pair], alpha=alpha, weight=weight)
        self.temperature, self.momentum = temperature, momentum
        self.others = Others(labels, num_negatives)
        self.embed_student = nn.Linear(widths[0], embedding_width)
        self.embed_teacher = nn.Linear(widths[1], embedding_width)
        self.register_buffer("student_bank", _random_bank(len(labels), embedding_width))
        self.register_buffer("teacher_bank", _random_bank(len(labels), embedding_width))
        self.register_buffer("student_scale", torch.tensor(-1.0))
        self.register_buffer("teacher_scale", torch.tensor(-1.0))

    def forward(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:
        """-> [N]; the banks then remember this batch."""
        ((ours, theirs),) = self.heard(student, teacher)
        ours = functional.normalize(self.embed_student(ours.flatten(1)), dim=1)
        theirs = functional.normalize(self.embed_teacher(theirs.flatten(1)), dim=1)
        places = torch.cat((batch.place.unsqueeze(1), self.others.draw(batch.place)), dim=1)
        losses = self._losses(ours, self.teacher_bank, places, self.student_scale) + self._losses(
            theirs, self.student_bank, places, self.teacher_scale
        )
        self._remember(self.student_bank, batch.place, ours)
        self._remember(self.teacher_bank, batch.place, theirs)
        return losses

    def _losses(self, embedded: Tensor, bank: Tensor, places: Tensor, scale: Tensor) -> Tensor:
        """[N, D] against the rows of *bank* at *places* [N, 1 + K], its own first -> [N]; *scale* is set by the first batch."""
        likeness = products(embedded, bank, places).div(self.temperature).exp()
        num_rows = len(bank)
        scale.copy_(torch.where(scale < 0, likeness.detach().mean() * num_rows, scale))
        own, others = (likeness / scale.clone()).split((1, likeness.shape[1] - 1), dim=1)
        noise = others.shape[1] / num_rows
        told = (own / (own + noise + EPS)).log().squeeze(1)
        told_apart = (noise / (others + noise + EPS)).log().sum(1)
        return -(told + told_apart)

    @torch.no_grad()
    def _remember(self, bank: Tensor, place: Tensor, embedded: Tensor) -> None:
        mixed = bank[place] * self.momentum + embedded.detach() * (1 - self.momentum)
        bank.index_copy_(0, place, functional.normalize(mixed, dim=1).to(bank.dtype))


def products(embedded: Tensor, bank: Tensor, places: Tensor) -> Tensor:
    """Of each of [N, D] with the rows of the *bank* [n, D] at its own *places* [N, M] -> [N, M]."""
    if len(bank) <= PRODUCTS_FOR_ONE_LOOKUP * places.shape[1]:
        # The bank may be written to before the gradient is asked for.
        return (embedded @ bank.t().clone()).gather(1, places)
    return (bank[places] @ embedded.unsqueeze(2)).squeeze(2)


class Others(nn.Module):
    """Draws samples that are no relatives: of other classes, or all others for a sample without a class.

    Samples without a label count as another class. In the order of classes the relatives of a sample lie side by side:
    a uniform number below the count of all others, moved past them, is a uniform draw from the others.
    """

    order: Tensor
    first: Tensor
    count: Tensor

    def __init__(self, labels: NDArray[Any], num_negatives: int) -> None:
        """BadInputError where all of *labels* [n] are of one class; numbers [n, D] are none."""
        super().__init__()
        if labels.dtype.kind == "f":
            labels = np.full(len(labels), UNLABELLED)
        self.num_negatives = num_negatives
        first, count = _relatives(labels)
        if not len(labels) or count.max() == len(labels):
            raise BadInputError(
                "student.objective: crd contrasts samples of different classes, and all "
                f"{len(labels)} training samples are of one class; take another objective, such as kd"
            )
        for name, column in (("order", np.argsort(labels, kind="stable")), ("first", first), ("count", count)):
            self.register_buffer(name, torch.from_numpy(column), persistent=False)

    def draw(self, place: Tensor) -> Tensor:
        """[N] -> [N, K] places, drawn with replacement by torch's generator."""
        first, count = self.first[place].unsqueeze(1), self.count[place].unsqueeze(1)
        size = (len(place), self.num_negatives)
        drawn = torch.randint(torch.iinfo(torch.int64).max, size, device=place.device) % (len(self.order) - count)
        return self.order[drawn + count * (drawn >= first)]


def _relatives(labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """[n] twice: where the relatives of a sample begin in the stable order of labels, and how many they are."""
    ordered = np.sort(labels)
    first = np.searchsorted(ordered, labels, side="left")
    count = np.searchsorted(ordered, labels, side="right") - first
    alone = np.flatnonzero(labels == UNLABELLED)
    # UNLABELLED is less than any label, so these come first, in their own order.
    first[alone], count[alone] = np.arange(len(alone)), 1
    return first, count


def _random_bank(num_rows: int, width: int) -> Tensor:
    bound = 1 / math.sqrt(width / 3)
    return torch.empty(num_rows, width).uniform_(-bound, bound)
