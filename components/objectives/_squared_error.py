"""The squared error of logits, and its gradient in closed form."""

from __future__ import annotations

from torch import Tensor

from components.contracts import Batch, Signals
from components.objectives._base import OnLogits
from components.objectives._softened_kl import wide
from components.schedules import Scheduled


class SquaredError(OnLogits):
    """Mean over classes of (student - teacher)^2."""

    def __init__(self, *, centre: bool, alpha: Scheduled, weight: Scheduled = 1.0) -> None:
        super().__init__(alpha=alpha, weight=weight)
        self.centre = centre

    def __call__(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:  # noqa: ARG002 - logits say all
        """Logits [N, C] twice -> [N]; half precision is widened to float32."""
        return self._difference(student, teacher).square().mean(1)

    def rows_and_gradient(
        self,
        student: Signals,
        teacher: Signals,
        batch: Batch,  # noqa: ARG002 - logits say all
    ) -> tuple[Tensor, Tensor]:
        """`contracts.ClosedForm`: twice the difference over C; centred, it has no mean of its own to lose."""
        found = self._difference(student, teacher)
        return found.square().mean(1), found.mul_(2 / found.shape[1])

    def _difference(self, student: Signals, teacher: Signals) -> Tensor:
        found = wide(student.logits) - wide(teacher.logits)
        return found - found.mean(1, keepdim=True) if self.centre else found
