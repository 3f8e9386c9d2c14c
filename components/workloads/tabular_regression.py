"""Tabular regression: one or several numbers a row of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from components.contracts import ColumnKind, DataSpec, DecodedSamples, Expectation, WorkloadParams
from components.workloads._regression import Regression, feature_expectations, target_expectations

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Params(WorkloadParams):
    """Nothing to choose: features and targets are those of the data."""

    name: Literal["tabular_regression"] = "tabular_regression"

    def build(self, data: DataSpec | None = None) -> TabularRegression:
        return TabularRegression(target_std=data.target_std if data else ())


class TabularRegression(Regression):
    """Regression of rows of a table, float32 [features]."""

    columns: ClassVar[Mapping[str, ColumnKind]] = {}

    def describe(self, samples: NDArray[np.float32]) -> Mapping[str, NDArray[Any]]:  # noqa: ARG002
        """Nothing: every feature is a column of the source already."""
        return {}

    def expectations(self, data: DataSpec) -> Sequence[Expectation]:
        """Finite numbers throughout, on the table with one row a sample; targets may be null where there is no label."""
        return (*target_expectations(data), *feature_expectations(data))

    def tiny(self, *, seed: int) -> DecodedSamples:
        """24 rows of three features and two targets that are sums of them, in units as unlike as a teaspoon and a mile."""
        import numpy as np

        draw = np.random.Generator(np.random.Philox(seed))
        samples = draw.normal(size=(24, 3)).astype(np.float32)
        near, far = samples[:, 0] - samples[:, 1], 1000 + 50 * (samples[:, 1] + samples[:, 2])
        return DecodedSamples(
            samples=samples,
            labels=np.stack((near, far), axis=1).astype(np.float32),
            class_names=(),
            sources=tuple(f"tiny:{row}" for row in range(24)),
            columns={name: samples[:, place].tolist() for place, name in enumerate("abc")},
            target_names=("near", "far"),
            feature_names=("a", "b", "c"),
        )
