"""Every slice of the holdout, such as each class, must be served well enough."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import sqrt
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from components.contracts import Case, GateTestParams, Reason
from components.errors import BadInputError, some_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Params(GateTestParams):
    """A good mean hides a bad class."""

    name: Literal["slices"] = "slices"
    column: str = Field("class", description="class, or a column of the data's own table")
    limit: float = Field(description="what the gate's metric must be at least as good as in every slice")
    min_rows: int = Field(20, ge=1, description="smaller slices say too little to be judged, and are named")

    def judge(self, case: Case) -> Iterator[Reason]:
        import numpy as np

        groups = case.candidate.groups.get(self.column)
        if groups is None:
            known = ", ".join(sorted(case.candidate.groups)) or "none"
            raise BadInputError(f"gate.tests: the data has no column {self.column!r} to slice by (there are: {known})")
        names, of = np.unique(np.asarray(groups), return_inverse=True)
        slices = {str(name): case.candidate.rows[of == place] for place, name in enumerate(names)}
        judged = {name: _value(case, rows) for name, rows in slices.items() if len(rows) >= self.min_rows}
        yield self._reason(case, judged, small=[name for name in slices if name not in judged])

    def _reason(self, case: Case, judged: Mapping[str, float], *, small: Sequence[str]) -> Reason:
        higher = case.measure.better == "higher"
        bound, left_out = f"slices of {self.column}", f"; too small to judge: {some_of(small)}" if small else ""
        if not judged:
            return Reason(bound, False, f"no slice has {self.min_rows} rows: a larger holdout is needed{left_out}")
        worst_first = sorted(judged, key=judged.__getitem__, reverse=not higher)
        bad = [name for name in worst_first if (judged[name] < self.limit if higher else judged[name] > self.limit)]
        shown = some_of([f"{name} {judged[name]:.4g}" for name in bad or worst_first[:1]])
        asked = f"at {'least' if higher else 'most'} {self.limit:g}"
        verdict = f"{len(bad)} of {len(judged)} are not: {shown}" if bad else f"the worst of {len(judged)} is {shown}"
        text = f"{case.metric} of every slice must be {asked}; {verdict}{left_out}"
        return Reason(bound, not bad, text, judged[worst_first[0]], self.limit)


def _value(case: Case, rows: NDArray[np.float64]) -> float:
    mean = float(rows.mean())
    return sqrt(mean) if case.measure.of_rows == "root_mean" else mean
