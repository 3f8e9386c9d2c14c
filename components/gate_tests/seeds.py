"""The candidate must not owe its score to a lucky seed: students of other seeds are trained and looked at."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from statistics import mean, stdev
from typing import Literal

from pydantic import Field

from components.contracts import Case, GateTestParams, Reason
from components.errors import BadInputError

FEWEST = 3


class Params(GateTestParams):
    """On the validation split, which the test split's verdict does not touch."""

    name: Literal["seeds"] = "seeds"
    count: int = Field(FEWEST, ge=FEWEST, description="students in all, the candidate's own seed and those after it")
    alpha: float = Field(0.05, gt=0, lt=0.5, description="how often a candidate of ordinary luck may be refused")

    def judge(self, case: Case) -> Iterator[Reason]:
        """Whether the candidate lies above what its siblings foretell of one more of them, by Student's t."""
        from components.evaluation.paired import t_quantile

        siblings = case.candidate.siblings
        if len(siblings) < self.count:
            raise BadInputError(f"gate.tests: seeds asks for {self.count} students, and {len(siblings)} were looked at")
        own, *others = siblings
        sign = 1 if case.measure.better == "higher" else -1
        spread = stdev(others) * sqrt(1 + 1 / len(others))
        limit = mean(others) + sign * t_quantile(1 - self.alpha, len(others) - 1) * spread
        kept = sign * (own - limit) <= 0
        text = (
            f"validation {case.metric} is {own:.4g}, and of {len(others)} other seeds {mean(others):.4g} ± {stdev(others):.2g}: "
            f"{'an ordinary seed' if kept else f'luckier than {1 - self.alpha:.0%} of seeds would be; promote another seed'}"
        )
        yield Reason("seeds", kept, text, own, limit)
