"""Which samples of a batch are alike, as two models see it."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from components.contracts import Batch, Signals
from components.objectives._base import OnFeatures, Reduction


class SimilarityPreserving(OnFeatures):
    """Mean squared difference of the similarities of all pairs of a batch: the sum over pairs divided by N^2."""

    reduction: Reduction = "batch"

    def forward(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:  # noqa: ARG002 - no labels are needed
        """-> [N], the mean over the pairs of each row."""
        ((ours, theirs),) = self.heard(student, teacher)
        return (similarity(ours) - similarity(theirs)).square().mean(1)


def similarity(features: Tensor) -> Tensor:
    """[N, ...] -> [N, N]: inner products, every row scaled to length 1."""
    flat = features.flatten(1)
    return functional.normalize(flat @ flat.t(), dim=1)
