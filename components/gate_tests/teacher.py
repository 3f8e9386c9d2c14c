"""The student must not be worse than its teacher by more than a margin, tested on the same rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from components.contracts import Case, GateTestParams, Reason
from components.errors import BadInputError


class Params(GateTestParams):
    """How much of the teacher must survive."""

    name: Literal["teacher"] = "teacher"
    margin: float = Field(gt=0, description="in the unit of the gate's metric")

    def judge(self, case: Case) -> Iterator[Reason]:
        from components.gate_tests._compare import compared

        if case.teacher is None:
            raise BadInputError(
                "gate.tests: the candidate's teacher is not registered any more, so nothing can be tested on it"
            )
        yield compared(case, case.teacher, "teacher", margin=self.margin)
