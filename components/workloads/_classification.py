"""What every classification has in common, whatever its samples: one label of C for each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from components.contracts import (
    UNLABELLED,
    DataSpec,
    Details,
    Expectation,
    LabelKind,
    Measure,
    Table,
    WorkloadParams,
)
from components.workloads._expectations import expect

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

BALANCE = 0.5
"""Class shares whose entropy is below this share of the uniform one's are worth a warning."""


class ClassificationParams(WorkloadParams):
    """The classes are those of the data."""

    calibration_bins: int = Field(15, ge=2, description="bins of the calibration error (ECE), of equal width")


class Classification:
    """Cross-entropy on hard labels; accuracy, negative log-likelihood (nats) and calibration error as metrics."""

    labels: ClassVar[LabelKind] = "classes"
    measures: ClassVar[Mapping[str, Measure]] = {
        "accuracy": Measure("accuracy", "higher", "share", of_rows="share"),
        "nll": Measure("NLL", "lower", "nats", of_rows="mean"),
        "ece": Measure("calibration, ECE", "lower", "share"),
    }
    primary_metric: ClassVar[str] = "accuracy"
    fidelity_measures: ClassVar[Mapping[str, Measure]] = {
        "agreement_with_teacher": Measure("teacher agreement", "higher", "share"),
        "kl_to_teacher": Measure("KL from teacher", "lower", "nats"),
    }

    def __init__(self, *, calibration_bins: int = 15) -> None:
        self.calibration_bins = calibration_bins

    def hard_label_loss(self, outputs: Tensor, labels: Tensor, *, label_smoothing: float) -> Tensor:
        """Cross-entropy in nats; [N, C], [N] -> [N]. Smoothing spreads that share of each label over all classes."""
        from torch.nn import functional

        return functional.cross_entropy(outputs, labels, reduction="none", label_smoothing=label_smoothing)

    def metrics(self, outputs: NDArray[np.float32], labels: NDArray[np.int64]) -> Mapping[str, float]:
        """[N, C], [N] -> a value for each of `measures`, computed in float64."""
        import numpy as np

        from components.evaluation import metrics

        wide = outputs.astype(np.float64)
        return {
            "accuracy": metrics.accuracy(wide, labels),
            "nll": metrics.negative_log_likelihood(wide, labels),
            "ece": metrics.expected_calibration_error(wide, labels, bins=self.calibration_bins),
        }

    def row_scores(self, outputs: NDArray[np.float32], labels: NDArray[np.int64]) -> Mapping[str, NDArray[np.float64]]:
        """[N, C], [N] -> [N] each: whether the prediction is right, and -log p(label) in nats."""
        import numpy as np

        from components.evaluation import metrics

        right = metrics.right(outputs, labels).astype(np.float64)
        return {"accuracy": right, "nll": metrics.nll_rows(outputs, labels)}

    def fidelity(self, outputs: NDArray[np.float32], teacher: NDArray[np.float32]) -> Mapping[str, float]:
        """[N, C] twice: the share of rows with the same prediction, and the mean KL(teacher || student) in nats."""
        from components.evaluation import fidelity

        return {
            "agreement_with_teacher": fidelity.agreement(outputs, teacher),
            "kl_to_teacher": fidelity.mean_kl(teacher, outputs),
        }

    def in_words(self, sample: NDArray[Any]) -> str:  # noqa: ARG002 - most samples are seen, not read
        return ""

    def details(self, outputs: Mapping[str, NDArray[np.float32]], labels: NDArray[np.int64], data: DataSpec) -> Details:
        """Accuracy by class, what the student confuses (a row a sample), and the bins of reliability diagrams."""
        predicted = outputs["student"].argmax(axis=1)
        names = data.class_names
        confusion = [(names[label], names[said]) for label, said in zip(labels, predicted, strict=True)]
        bins = [row for arm, said in outputs.items() for row in _bin_rows(arm, said, labels, self.calibration_bins)]
        return Details(
            figures={"per_class": _per_class(outputs, labels, names)},
            tables={
                "confusion": Table(("class", "predicted"), confusion),
                "reliability": Table(("arm", "bin_low", "bin_high", "num_rows", "confidence", "accuracy"), bins),
            },
        )


def _per_class(
    outputs: Mapping[str, NDArray[np.float32]], labels: NDArray[np.int64], names: Sequence[str]
) -> list[dict[str, Any]]:
    """In label order: name, rows, and each arm's accuracy on them (null for a class without rows)."""
    from components.evaluation.metrics import confusion_matrix, per_class_accuracy

    confusions = {arm: confusion_matrix(said, labels) for arm, said in outputs.items()}
    shares = {arm: per_class_accuracy(confusion) for arm, confusion in confusions.items()}
    rows = next(iter(confusions.values())).sum(axis=1)
    return [
        {
            "class_name": name,
            "num_rows": int(rows[label]),
            **{arm: float(shares[arm][label]) if rows[label] else None for arm in outputs},
        }
        for label, name in enumerate(names)
    ]


def _bin_rows(
    arm: str, outputs: NDArray[np.float32], labels: NDArray[np.int64], bins: int
) -> Iterator[Sequence[str | float]]:
    """One for each bin that holds any rows."""
    from components.evaluation.metrics import reliability_bins

    found = reliability_bins(outputs, labels, bins=bins)
    columns = (found.lower, found.upper, found.count, found.confidence, found.accuracy)
    return ((arm, *row) for row in zip(*(column.tolist() for column in columns), strict=True) if row[2])


def label_expectations(class_names: Sequence[str]) -> Iterator[Expectation]:
    """The label set, its names, and a warning where a few classes have nearly all samples."""
    labels = list(range(len(class_names)))
    yield expect("expect_column_values_to_be_in_set", "label", value_set=[UNLABELLED, *labels])
    yield expect("expect_column_distinct_values_to_contain_set", "label", value_set=labels)
    yield expect("expect_column_values_to_be_in_set", "class_name", value_set=list(class_names))
    yield expect(
        "expect_column_kl_divergence_to_be_less_than",
        "label",
        severity="warning",
        partition_object={"values": labels, "weights": [1 / len(labels)] * len(labels)},
        threshold=(1 - BALANCE) * math.log(max(2, len(labels))),
        row_condition="label >= 0",
        condition_parser="pandas",
    )
