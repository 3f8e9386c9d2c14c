"""What objectives have in common; see `contracts.Objective`."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Literal

from torch import Tensor, nn

from components.contracts import Batch, ModelTaps, ObjectiveSpec, Signals
from components.errors import BadInputError
from components.schedules import Scheduled

Reduction = Literal["rows", "batch"]
EMBEDDING = "embedding"
"""The tap point that the last layer reads, in every family that names one."""


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
    close = difflib.get_close_matches(tap, taps.shapes, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise BadInputError(
        f"student.objective: the {whose} has no tap point {tap!r}; it has: {points_in_words(taps)}.{hint} "
        "Name another one, or any submodule by its own name"
    )


def points_in_words(taps: ModelTaps) -> str:
    """Such as 'stage1 (8, 14, 14), embedding (32)'."""
    points = [f"{point} ({', '.join(map(str, taps.shapes[point]))})" for point in taps.points]
    return ", ".join(points) or "none that it names itself"


def common_stages(spec: ObjectiveSpec) -> tuple[str, ...]:
    """Tap points that both models name, from input to output, the embedding left out; BadInputError if there is none."""
    assert spec.teacher is not None, "an objective that needs features is built with the teacher's taps"
    found = tuple(point for point in spec.student.points if point in spec.teacher.points and point != EMBEDDING)
    if found:
        return found
    raise BadInputError(
        "student.objective: student and teacher have no stage of one name to compare (student: "
        f"{points_in_words(spec.student)}; teacher: {points_in_words(spec.teacher)}); name the tap points in the "
        "objective's parameters. A teacher that is an exported program or an ensemble has none: train the teacher here, "
        "give its weights, or take an objective on logits such as kd"
    )
