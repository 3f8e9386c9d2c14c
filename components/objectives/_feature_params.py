"""What the parameters of objectives on features have in common; importing this costs no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from components.contracts import LabelKind, ObjectiveParams
from components.schedules import Scheduled, Within


class FeatureParams(ObjectiveParams):
    """Of an objective that compares features and neither outputs nor labels."""

    alpha: Annotated[Scheduled, Within(ge=0, le=1)] = Field(
        0.5, description="share of the distillation part; at 0.5 weight : 1 is distillation : hard-label loss"
    )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"features"})

    @property
    def learns(self) -> frozenset[LabelKind]:
        return frozenset({"classes", "numbers"})


class EmbeddingParams(FeatureParams):
    """Of one that compares what the last layers read, unless told otherwise."""

    student_tap: str = Field("embedding", description="tap point of the student")
    teacher_tap: str = Field("embedding", description="tap point of the teacher")
