"""Contrastive representation distillation: the student's embedding tells a sample from others as the teacher's does."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from components.contracts import Objective, ObjectiveSpec
from components.objectives._feature_params import EmbeddingParams
from components.schedules import Scheduled, Within


class Params(EmbeddingParams):
    """Tian, Krishnan and Isola, "Contrastive representation distillation" (ICLR 2020)."""

    name: Literal["crd"] = "crd"
    weight: Annotated[Scheduled, Within(ge=0)] = Field(0.02, description="factor of the distillation part")
    temperature: float = Field(
        0.07, ge=0.02, description="of the contrast; below 0.02 the exponentials would leave the range of float32"
    )
    num_negatives: int = Field(
        1024,
        ge=1,
        description="remembered samples that each sample is told from; each costs embedding_width numbers a row",
    )
    embedding_width: int = Field(
        128, ge=1, description="of both embeddings; two banks of so many float32 a training sample are kept in memory"
    )
    momentum: float = Field(0.5, ge=0, lt=1, description="share of the old in what is remembered of a sample")

    def build(self, spec: ObjectiveSpec) -> Objective:
        """BadInputError where a model does not have its tap point, or all samples are of one class."""
        import math

        from components.objectives._base import shape_at
        from components.objectives._contrast import Contrast

        ours = shape_at(spec.student, self.student_tap, "student")
        theirs = shape_at(spec.teacher, self.teacher_tap, "teacher")
        return Contrast(
            (self.student_tap, self.teacher_tap),
            (math.prod(ours), math.prod(theirs)),
            spec.train_labels,
            embedding_width=self.embedding_width,
            num_negatives=self.num_negatives,
            temperature=self.temperature,
            momentum=self.momentum,
            alpha=self.alpha,
            weight=self.weight,
        )
