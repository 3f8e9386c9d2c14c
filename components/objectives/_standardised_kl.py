"""The softened divergence of standardised logits, and its gradient in closed form."""

from __future__ import annotations

import math

from torch import Tensor
from torch.linalg import vector_norm

from components.contracts import Batch, Signals
from components.objectives._softened_kl import SoftenedKL, wide

TINY = 1e-7
"""Added to every deviation, as in the authors' code: a row of equal logits stays finite."""


class StandardisedKL(SoftenedKL):
    """T^2 * KL(teacher || student) of (logits - mean) / (TINY + sd) / T, row by row; in nats.

    Blind to a constant and to a positive factor on the student's logits: the hard-label loss alone sets their scale.
    """

    def __call__(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:
        """Logits [N, C] twice -> [N]; half precision is widened to float32."""
        (ours, _), (theirs, _) = _standardised(student), _standardised(teacher)
        return super().__call__(Signals(ours), Signals(theirs), batch)

    def rows_and_gradient(self, student: Signals, teacher: Signals, batch: Batch) -> tuple[Tensor, Tensor]:
        """`contracts.ClosedForm`: the divergence's own gradient, less what the mean and the deviation take of it."""
        (z, sd), (theirs, _) = _standardised(student), _standardised(teacher)
        losses, slope = super().rows_and_gradient(Signals(z), Signals(theirs), batch)
        divisor, divided = sd + TINY, sd.masked_fill(sd == 0, 1.0) * (z.shape[1] - 1)
        along = (slope * z).sum(1, keepdim=True) * divisor / divided
        return losses, (slope - slope.mean(1, keepdim=True)).addcmul_(z, along, value=-1).div_(divisor)


def _standardised(said: Signals) -> tuple[Tensor, Tensor]:
    """[N, C] -> [N, C] of mean 0, and the deviations [N, 1] of a sample (divided by C - 1, not by C)."""
    logits = wide(said.logits)
    centred = logits - logits.mean(1, keepdim=True)
    sd = vector_norm(centred, dim=1, keepdim=True) / math.sqrt(logits.shape[1] - 1)
    return centred / (sd + TINY), sd
