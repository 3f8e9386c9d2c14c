"""What every regression has in common, whatever its samples: labels that are numbers, one or several a sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from components.contracts import DataSpec, Details, Expectation, LabelKind, Measure, Table
from components.workloads._expectations import expect

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

LARGEST = 3.4e38
"""What single precision holds."""


class Regression:
    """Squared error on hard labels; root mean squared and mean absolute error and the explained share as metrics."""

    labels: ClassVar[LabelKind] = "numbers"
    measures: ClassVar[Mapping[str, Measure]] = {
        "rmse": Measure("RMSE", "lower", of_rows="root_mean"),
        "mae": Measure("MAE", "lower", of_rows="mean"),
        "r2": Measure("R²", "higher"),
    }
    primary_metric: ClassVar[str] = "rmse"
    fidelity_measures: ClassVar[Mapping[str, Measure]] = {"rmse_to_teacher": Measure("RMSE to teacher", "lower")}

    def __init__(self, *, target_std: tuple[float, ...] = ()) -> None:
        """*target_std* [D]: the loss is in these units, so that a learning rate suits labels of any size."""
        self.target_std = target_std

    def hard_label_loss(self, outputs: Tensor, labels: Tensor, *, label_smoothing: float) -> Tensor:  # noqa: ARG002
        """Mean over D of squared errors in units of the labels' deviation; [N, D], [N, D] -> [N]. Nothing is smoothed."""
        errors = outputs - labels
        if self.target_std:
            errors = errors / errors.new_tensor(self.target_std)
        return errors.square().mean(dim=1)

    def metrics(self, outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> Mapping[str, float]:
        """[N, D], [N, D] -> a value for each of `measures`, computed in float64, in the labels' own unit."""
        from components.evaluation import regression

        return {
            "rmse": regression.root_mean_squared_error(outputs, labels),
            "mae": regression.mean_absolute_error(outputs, labels),
            "r2": regression.r_squared(outputs, labels),
        }

    def row_scores(
        self, outputs: NDArray[np.float32], labels: NDArray[np.float32]
    ) -> Mapping[str, NDArray[np.float64]]:
        """[N, D], [N, D] -> [N] each: squared and absolute errors."""
        from components.evaluation import regression

        return {
            "rmse": regression.squared_errors(outputs, labels),
            "mae": regression.absolute_errors(outputs, labels),
        }

    def fidelity(self, outputs: NDArray[np.float32], teacher: NDArray[np.float32]) -> Mapping[str, float]:
        """[N, D] twice: how far the student is from the teacher."""
        from components.evaluation import regression

        return {"rmse_to_teacher": regression.root_mean_squared_error(outputs, teacher)}

    def in_words(self, sample: NDArray[Any]) -> str:  # noqa: ARG002 - most samples are seen, not read
        return ""

    def details(
        self, outputs: Mapping[str, NDArray[np.float32]], labels: NDArray[np.float32], data: DataSpec
    ) -> Details:
        """What each arm says of each sample and target, beside its label."""
        rows = [
            (arm, name, float(label), float(predicted))
            for arm, said in outputs.items()
            for place, name in enumerate(data.target_names)
            for label, predicted in zip(labels[:, place], said[:, place], strict=True)
        ]
        return Details(tables={"predictions": Table(("arm", "target", "label", "predicted"), rows)})


def target_expectations(data: DataSpec) -> Iterator[Expectation]:
    """Each target is a finite number in some rows at least, and does not always say the same."""
    for name in data.target_names:
        yield from _numbers(name)
        yield expect("expect_column_proportion_of_non_null_values_to_be_between", name, min_value=0, strict_min=True)


def feature_expectations(data: DataSpec) -> Iterator[Expectation]:
    """Each feature is a finite number in every row; one that always says the same is worth a word."""
    for name in data.feature_names:
        yield from _numbers(name)
        yield expect("expect_column_values_to_not_be_null", name)


def _numbers(name: str) -> Iterator[Expectation]:
    yield expect("expect_column_values_to_be_in_type_list", name, type_list=["float64", "float32"])
    yield expect("expect_column_values_to_be_between", name, min_value=-LARGEST, max_value=LARGEST)
    yield expect("expect_column_unique_value_count_to_be_between", name, severity="warning", min_value=2)
