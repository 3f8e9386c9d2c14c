"""What objectives have in common; see `contracts.Objective`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from torch import Tensor, nn

from components.contracts import Batch, ModelTaps, Signals
from components.errors import BadInputError
from components.schedules import Scheduled

Reduction = Literal["rows", "batch"]


class OnLogits:
    """An objective on logits that learns nothing itself."""

    needs = frozenset({"logits"})
    student_taps: tuple[str, ...] = ()
    teacher_taps: tuple[str, ...] = ()
    reduction: Reduction = "rows"

    def __init__(self, *, alpha: Scheduled, weight: Scheduled = 1.0) -> None:
        self.alpha, self.weight = alpha, weight

    def __call__(self, student: Signals, teacher: Signals, batch: Batch) -> Tensor:
        """-> [N]."""
        raise NotImplementedError

    def parameters(self) -> Iterator[nn.Parameter]:
        return iter(())


class OnFeatures(nn.Module):
    """An objective on what is heard at pairs of tap points, which may learn and remember."""

    needs = frozenset({"features"})
    reduction: Reduction = "rows"

    def __init__(self, pairs: Sequence[tuple[str, str]], *, alpha: Scheduled, weight: Scheduled = 1.0) -> None:
        """*pairs* of the student's tap point and the teacher's."""
        super().__init__()
        self.alpha, self.weight = alpha, weight
        self.student_taps = tuple(ours for ours, _ in pairs)
        self.teacher_taps = tuple(theirs for _, theirs in pairs)

    def heard(self, student: Signals, teacher: Signals) -> list[tuple[Tensor, Tensor]]:
        """The student's features and the teacher's, [N, ...] twice, of each pair."""
        taps = zip(self.student_taps, self.teacher_taps, strict=True)
        return [(student.features[ours], teacher.features[theirs]) for ours, theirs in taps]


def shape_at(taps: ModelTaps | None, tap: str, whose: str) -> tuple[int, ...]:
    """Shape of one sample's features at *tap*; BadInputError where there is none, *whose* says of which model."""
    assert taps is not None, "an objective that needs features is built with the teacher's taps"
    if tap in taps.shapes:
        return taps.shapes[tap]
    known = ", ".join(taps.points) or "none of its own, but every submodule by its name"
    raise BadInputError(f"the {whose} has no tap point {tap!r}; it has: {known}")
