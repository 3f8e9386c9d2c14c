"""The student must answer within a time, as measured on the machine that evaluated it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from components.contracts import Case, GateTestParams, Reason
from components.errors import BadInputError


class Params(GateTestParams):
    """Measured on this machine, which should resemble the one that serves."""

    name: Literal["latency"] = "latency"
    batch_size: int = Field(1, ge=1, description="one of evaluate.latency_batches")
    p95_ms: float = Field(gt=0, description="95 of 100 forward passes take at most so long")

    def judge(self, case: Case) -> Iterator[Reason]:
        found = case.candidate.latency_ms
        if not found:
            text = "no latency was measured on this machine: evaluate again where it is to be judged"
            yield Reason("latency", False, text, None, self.p95_ms)
            return
        if self.batch_size not in found:
            raise BadInputError(
                f"gate.tests: no latency of batches of {self.batch_size} was measured (there are: "
                f"{', '.join(map(str, sorted(found)))}); add it to evaluate.latency_batches"
            )
        value = found[self.batch_size]["p95"]
        kept = value <= self.p95_ms
        ending = "is allowed" if kept else "would have been enough"
        text = f"p95 of batches of {self.batch_size} is {value:.3g} ms; at most {self.p95_ms:g} ms {ending}"
        yield Reason("latency", kept, text, value, self.p95_ms)
