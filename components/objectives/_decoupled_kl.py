"""The divergence in two parts, and its gradient in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from components.contracts import Batch, Signals
from components.objectives._base import OnLogits
from components.objectives._bernoulli_kl import bernoulli_kl
from components.objectives._softened_kl import Temperature, wide
from components.schedules import Scheduled, value_at


@dataclass(frozen=True, slots=True)
class _Parts:
    """Softened logits of N rows, taken apart at one class of each."""

    log_odds: Tensor
    """[N, 1]: of the target class against all others together."""
    log_others: Tensor
    """[N, C - 1]: log-probabilities among the others alone."""


@dataclass(frozen=True, slots=True)
class _Taught:
    """Both sides of a batch, and what its rows count."""

    student: _Parts
    teacher: _Parts
    target: Tensor
    """[N, 1] int64: where each row is taken apart."""
    others: Tensor
    """[N, C - 1] int64."""
    on_target: Tensor
    """[N, 1]: weight of the divergence of the target class."""
    on_others: Tensor
    """[N, 1]."""
    t: Tensor


class DecoupledKL(OnLogits):
    """T^2 * (target_weight * TCKD + non_target_weight * NCKD), in nats.

    TCKD is the divergence between labelled class and the rest, a choice of two; NCKD that among the rest alone. KL is
    TCKD + (1 - p) * NCKD with the teacher's softened probability p of any class one likes: so rows without a label,
    which name no target, are plain KL.
    """

    def __init__(
        self,
        *,
        temperature: Scheduled,
        target_weight: Scheduled,
        non_target_weight: Scheduled,
        alpha: Scheduled,
        weight: Scheduled = 1.0,
    ) -> None:
        super().__init__(alpha=alpha, weight=weight)
        self.temperature = Temperature(temperature)
        self.target_weight, self.non_target_weight = target_weight, non_target_weight

    def __call__(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:
        """Logits [N, C] twice -> [N]; half precision is widened to float32."""
        return self._losses(self._taught(student, teacher, batch))

    def rows_and_gradient(self, student: Signals, teacher: Signals, batch: Batch) -> tuple[Tensor, Tensor]:
        """`contracts.ClosedForm`: both parts are divergences of softmaxes, whose slopes are differences of probabilities.

        The log-odds rise with the target's logit by 1/T and fall with another's by its probability among the others / T.
        """
        found = self._taught(student, teacher, batch)
        q = found.student.log_others.exp()
        odds = found.on_target * (found.student.log_odds.sigmoid() - found.teacher.log_odds.sigmoid())
        others = found.on_others * (q - found.teacher.log_others.exp()) - odds * q
        gradient = others.new_empty(len(others), others.shape[1] + 1)
        gradient.scatter_(1, found.target, odds).scatter_(1, found.others, others)
        return self._losses(found), gradient.mul_(found.t)

    def _losses(self, found: _Taught) -> Tensor:
        log_q, log_p = found.student.log_others, found.teacher.log_others
        of_target = bernoulli_kl(found.student.log_odds, found.teacher.log_odds)
        of_others = (log_p.exp() * (log_p - log_q)).sum(1, keepdim=True)
        return (found.on_target * of_target + found.on_others * of_others).squeeze(1) * (found.t * found.t)

    def _taught(self, student: Signals, teacher: Signals, batch: Batch) -> _Taught:
        s, p = wide(student.logits), wide(teacher.logits)
        t = self.temperature.at(batch.progress, s.dtype)
        target = batch.labels.clamp(min=0).unsqueeze(1)
        places = torch.arange(s.shape[1] - 1, device=s.device)
        others = places + (places >= target)
        ours, theirs = _apart(s / t, target, others), _apart(p / t, target, others)
        labelled = batch.labelled.unsqueeze(1)
        on_target = _where(labelled, value_at(self.target_weight, batch.progress), torch.ones_like(theirs.log_odds))
        on_others = _where(labelled, value_at(self.non_target_weight, batch.progress), (-theirs.log_odds).sigmoid())
        return _Taught(ours, theirs, target, others, on_target, on_others, t)


def _apart(logits: Tensor, target: Tensor, others: Tensor) -> _Parts:
    """Exact for any logits: no class is hidden behind a large negative number."""
    rest = logits.gather(1, others)
    together = rest.logsumexp(1, keepdim=True)
    return _Parts(logits.gather(1, target) - together, rest - together)


def _where(labelled: Tensor, fixed: float, other: Tensor) -> Tensor:
    return torch.where(labelled, other.new_tensor(fixed), other)
