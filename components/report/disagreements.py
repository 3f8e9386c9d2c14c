"""Test samples on which student and teacher disagree most, and what each says at the temperature of the objective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.report.data import ReportData

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One sample, as both models see it."""

    row: int
    """In the data's samples."""
    label: int
    student: NDArray[np.float64]
    """[C], probabilities at the temperature."""
    teacher: NDArray[np.float64]
    """[C], probabilities at the temperature."""
    student_says: int
    teacher_says: int


def disagreements(report: ReportData, *, limit: int = 6) -> tuple[Disagreement, ...]:
    """At most *limit* samples with different predictions, the largest divergence at the temperature first."""
    import numpy as np

    from components.evaluation.fidelity import agrees, kl_rows
    from components.evaluation.metrics import log_softmax

    student, teacher = report.logits("student"), report.logits("teacher")
    divergence = np.where(agrees(student, teacher), -1.0, kl_rows(teacher, student, temperature=report.temperature))
    order = [int(row) for row in np.argsort(-divergence, kind="stable")[:limit] if divergence[row] >= 0]
    soft = {
        arm: np.exp(log_softmax(logits[order], temperature=report.temperature)) if order else logits[:0]
        for arm, logits in (("student", student), ("teacher", teacher))
    }
    rows, labels = report.array("test_rows.npy"), report.array("labels.npy")
    return tuple(
        Disagreement(
            row=int(rows[index]),
            label=int(labels[index]),
            student=soft["student"][place],
            teacher=soft["teacher"][place],
            student_says=int(student[index].argmax()),
            teacher_says=int(teacher[index].argmax()),
        )
        for place, index in enumerate(order)
    )
