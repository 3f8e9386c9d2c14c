"""Knowledge distillation as first proposed: the student matches the teacher's softened class probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from components.contracts import Batch, DataSpec, ObjectiveParams, Signals

if TYPE_CHECKING:
    from torch import Tensor, nn


class Params(ObjectiveParams):
    """Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network" (2015)."""

    name: Literal["kd"] = "kd"
    temperature: float = Field(
        4.0, gt=0, description="T; 1 keeps the teacher's own sharpness, more shows its second thoughts"
    )

    def build(self, data: DataSpec) -> SoftenedKL:  # noqa: ARG002 - it fits any number of classes
        return SoftenedKL(temperature=self.temperature, alpha=self.alpha)


class SoftenedKL:
    """T^2 * KL(teacher || student), both softened by the temperature T; in nats.

    The gradient of the softened divergence shrinks with T^2, so the factor keeps it of one size
    and `alpha` means the same at every temperature.
    """

    needs = frozenset({"logits"})
    reduction: Literal["rows", "batch"] = "rows"

    def __init__(self, *, temperature: float, alpha: float) -> None:
        self.temperature = temperature
        self.alpha = alpha

    def __call__(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:  # noqa: ARG002 - labels play no part
        """Logits [N, C] twice -> [N]; half precision is widened to float32."""
        import torch

        log_student = _log_softmax(student.logits, self.temperature)
        log_teacher = _log_softmax(teacher.logits, self.temperature)
        return torch.linalg.vecdot(log_teacher.exp() * self.temperature**2, log_teacher - log_student)

    def parameters(self) -> Iterator[nn.Parameter]:
        return iter(())


def _log_softmax(logits: Tensor, temperature: float) -> Tensor:
    import torch

    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return torch.log_softmax(wide / temperature, dim=-1)
