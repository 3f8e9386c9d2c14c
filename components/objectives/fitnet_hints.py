"""FitNets: the student guesses the teacher's features halfway through the network."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from components.contracts import Objective, ObjectiveSpec
from components.objectives._feature_params import FeatureParams
from components.schedules import Scheduled, Within


class Params(FeatureParams):
    """Romero et al., "FitNets: hints for thin deep nets" (ICLR 2015)."""

    name: Literal["fitnet_hints"] = "fitnet_hints"
    weight: Annotated[Scheduled, Within(ge=0)] = Field(1.0, description="factor of the distillation part")
    student_tap: str | None = Field(
        None, description="tap point of the student; default: the middle one of the stages that both models name"
    )
    teacher_tap: str | None = Field(None, description="tap point of the teacher; default: the one of the same name")

    def build(self, spec: ObjectiveSpec) -> Objective:
        """BadInputError where the two tap points cannot be compared."""
        from components.objectives._base import common_stages
        from components.objectives._hints import make_hints

        ours = self.student_tap or _middle(common_stages(spec))
        return make_hints(spec, (ours, self.teacher_tap or ours), alpha=self.alpha, weight=self.weight)


def _middle(stages: tuple[str, ...]) -> str:
    """Of an even number the later."""
    return stages[len(stages) // 2]
