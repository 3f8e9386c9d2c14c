"""Several objectives at once: the weighted sum of their losses."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from components import plugins
from components.contracts import LabelKind, Objective, ObjectiveParams, ObjectiveSpec

Part = Annotated[SerializeAsAny[ObjectiveParams], BeforeValidator(plugins.parse("objectives"))]


class Params(ObjectiveParams):
    """Each part keeps its own weight; alpha is of the whole."""

    name: Literal["combined"] = "combined"
    parts: tuple[Part, ...] = Field(min_length=2, description="objectives, each with its weight")

    @model_validator(mode="after")
    def _alpha_is_of_the_whole(self) -> Params:
        odd = [part.name for part in self.parts if "alpha" in part.model_fields_set]
        if odd:
            raise ValueError(
                f"alpha of {', '.join(odd)} would mean nothing: give the parts a weight, and alpha to the whole"
            )
        return self

    @property
    def learns(self) -> frozenset[LabelKind]:
        return frozenset.intersection(*(part.learns for part in self.parts))

    @property
    def needs(self) -> frozenset[str]:
        return frozenset().union(*(part.needs for part in self.parts))

    def plugin_names(self) -> tuple[str, ...]:
        return (self.name, *(name for part in self.parts for name in part.plugin_names()))

    def in_words(self) -> str:
        parts = " + ".join(part.in_words() for part in self.parts)
        return f"{parts}, alpha {self.alpha:g}" if isinstance(self.alpha, float) else parts

    def build(self, spec: ObjectiveSpec) -> Objective:
        from components.objectives._combined import Combined

        return Combined([part.build(spec) for part in self.parts], alpha=self.alpha, weight=self.weight)
