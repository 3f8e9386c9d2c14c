"""The divergence of yes-or-no answers, and its gradient in closed form."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn.functional import logsigmoid

from components.contracts import Batch, Signals
from components.objectives._base import OnLogits
from components.objectives._softened_kl import Temperature, wide
from components.schedules import Scheduled


class BernoulliKL(OnLogits):
    """T^2 * KL(sigmoid(t/T) || sigmoid(s/T)) of each class, mean or sum over classes; in nats."""

    def __init__(
        self,
        *,
        temperature: Scheduled,
        over_classes: Literal["mean", "sum"],
        alpha: Scheduled,
        weight: Scheduled = 1.0,
    ) -> None:
        super().__init__(alpha=alpha, weight=weight)
        self.temperature = Temperature(temperature)
        self.over_classes = over_classes

    def __call__(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:
        """Logits [N, C] twice -> [N]; half precision is widened to float32."""
        s, p, t = self._softened(student, teacher, batch)
        return bernoulli_kl(s, p).sum(1) * (t * t * self._share(s))

    def rows_and_gradient(self, student: Signals, teacher: Signals, batch: Batch) -> tuple[Tensor, Tensor]:
        """`contracts.ClosedForm`: T * (sigmoid(s/T) - sigmoid(t/T)), divided by C for a mean."""
        s, p, t = self._softened(student, teacher, batch)
        losses = bernoulli_kl(s, p).sum(1) * (t * t * self._share(s))
        return losses, (s.sigmoid() - p.sigmoid()).mul_(t * self._share(s))

    def _softened(self, student: Signals, teacher: Signals, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        s, p = wide(student.logits), wide(teacher.logits)
        t = self.temperature.at(batch.progress, s.dtype)
        return s / t, p / t, t

    def _share(self, logits: Tensor) -> float:
        return 1 / logits.shape[1] if self.over_classes == "mean" else 1.0


def bernoulli_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL of two Bernoulli distributions given as log-odds of one shape, element by element, in nats.

    Both answers by their own log-probabilities: 1 - sigmoid would lose the digits of a sure one.
    """
    yes = teacher.sigmoid() * (logsigmoid(teacher) - logsigmoid(student))
    no = (-teacher).sigmoid() * (logsigmoid(-teacher) - logsigmoid(-student))
    return yes + no
