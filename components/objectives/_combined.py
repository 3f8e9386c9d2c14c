"""The weighted sum of objectives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from components.contracts import Batch, Objective, Signals
from components.objectives._base import Reduction
from components.schedules import Scheduled, value_at


class Combined(nn.Module):
    """Sum of weight * loss over its parts, row by row."""

    def __init__(self, parts: Sequence[Objective], *, alpha: Scheduled, weight: Scheduled) -> None:
        super().__init__()
        self.alpha, self.weight = alpha, weight
        self.objectives = tuple(parts)
        self.modules_of_parts = nn.ModuleList([part for part in parts if isinstance(part, nn.Module)])
        self.needs = frozenset().union(*(part.needs for part in parts))
        self.student_taps = _once(tap for part in parts for tap in part.student_taps)
        self.teacher_taps = _once(tap for part in parts for tap in part.teacher_taps)
        self.reduction: Reduction = "batch" if any(part.reduction == "batch" for part in parts) else "rows"

    def forward(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:
        """-> [N]."""
        losses = [value_at(part.weight, batch.progress) * part(student, teacher, batch) for part in self.objectives]
        return torch.stack(losses).sum(0)


def _once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
