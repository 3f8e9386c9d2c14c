"""A metric, a size or a fidelity to the teacher must be at least as good as a number."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from components.contracts import Case, GateTestParams, Reason
from components.errors import BadInputError


class Params(GateTestParams):
    """Calibration, agreement with the teacher, bytes: whatever has one number."""

    name: Literal["bound"] = "bound"
    metric: str = Field(description="such as ece, agreement_with_teacher, num_parameters or weight_bytes")
    limit: float = Field(description="at least this where more is better, at most this where less is")

    def judge(self, case: Case) -> Iterator[Reason]:
        known = {**case.directions, "num_parameters": "lower", "weight_bytes": "lower"}
        value = case.candidate.metrics.get(self.metric, math.nan)
        if self.metric not in known or math.isnan(value):
            raise BadInputError(
                f"gate.tests: {self.metric!r} was not measured (there are: {', '.join(sorted(case.candidate.metrics))})"
            )
        higher = known[self.metric] == "higher"
        kept = value >= self.limit if higher else value <= self.limit
        asked = f"at {'least' if higher else 'most'} {self.limit:g}"
        text = f"{self.metric} is {value:.6g}; {asked} {'is asked for' if kept else 'would have been enough'}"
        yield Reason(self.metric, kept, text, value, self.limit)
