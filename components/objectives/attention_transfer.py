"""Attention transfer: the student looks where the teacher looks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from components.contracts import Objective, ObjectiveSpec
from components.objectives._feature_params import FeatureParams
from components.schedules import Scheduled, Within

WEIGHTS = {"code": 10.0, "paper": 1.0}


class Params(FeatureParams):
    """Zagoruyko and Komodakis, "Paying more attention to attention" (ICLR 2017)."""

    name: Literal["attention_transfer"] = "attention_transfer"
    form: Literal["code", "paper"] = Field(
        "code",
        description="code: the mean squared difference of the authors' code; paper: the length of the difference",
    )
    weight: Annotated[Scheduled, Within(ge=0)] = Field(
        WEIGHTS["code"],
        description=f"factor of the distillation part; default: {WEIGHTS['code']:g} for code, {WEIGHTS['paper']:g} for paper",
    )
    pairs: tuple[tuple[str, str], ...] = Field(
        (),
        description="[tap point of the student, of the teacher] each; default: all stages that are maps in both models",
    )

    @model_validator(mode="before")
    @classmethod
    def _weight_by_form(cls, given: Any) -> Any:
        # The two forms differ in size by a factor of a hundred and more.
        if isinstance(given, dict) and given.get("form") == "paper":
            return {"weight": WEIGHTS["paper"], **given}
        return given

    def build(self, spec: ObjectiveSpec) -> Objective:
        """BadInputError where one of a pair is no map."""
        from components.objectives._attention import make_attention_transfer

        return make_attention_transfer(spec, self.pairs, form=self.form, alpha=self.alpha, weight=self.weight)
