"""How probable each sample of a batch is as the neighbour of another, as two models see it."""

from __future__ import annotations

import torch
from torch import Tensor

from components.contracts import Batch, Signals
from components.objectives._base import OnFeatures, Reduction

EPS = 1e-7
"""As in the authors' code, of lengths and of probabilities."""


class ProbabilisticTransfer(OnFeatures):
    """Divergence of the neighbours' probabilities, as the mean over all pairs of a batch."""

    reduction: Reduction = "batch"

    def forward(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:  # noqa: ARG002 - no labels are needed
        """-> [N], the mean over the pairs of each row, in nats."""
        ((ours, theirs),) = self.heard(student, teacher)
        q, p = neighbours(ours), neighbours(theirs)
        return (p * ((p + EPS) / (q + EPS)).log()).mean(1)


def neighbours(features: Tensor) -> Tensor:
    """[N, ...] -> [N, N], rows that sum to 1: the cosine similarity, moved to 0..1, of each row to all, itself included."""
    flat = features.flatten(1)
    # The length of a row of zeros has the gradient 0 here; the root of a sum of squares would have none.
    unit = flat / (torch.linalg.vector_norm(flat, dim=1, keepdim=True) + EPS)
    kernel = (unit @ unit.t() + 1) / 2
    return kernel / kernel.sum(1, keepdim=True)
