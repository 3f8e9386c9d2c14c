"""What every data version of labelled images must satisfy, on the table with one row a sample."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from components.contracts import UNLABELLED, DataSpec, Expectation, Severity

BALANCE = 0.5
"""Class shares whose entropy is below this share of the uniform one's are worth a warning."""
CONSTANT_SHARE_MAX = 0.01
"""More pictures of a single colour than this are a broken decoder, not content."""
STD_MAX = 0.5
"""Of values in 0..1: half of them 0, half of them 1."""


def image_expectations(data: DataSpec) -> Sequence[Expectation]:
    """Label set and balance, shape, and pixel statistics scaled to 0..1."""
    return (*_labels(data.class_names), *_shape(data.sample_shape), *_pixels())


def _labels(class_names: Sequence[str]) -> Iterator[Expectation]:
    labels = list(range(len(class_names)))
    yield _expect("expect_column_values_to_be_in_set", "label", value_set=[UNLABELLED, *labels])
    yield _expect("expect_column_distinct_values_to_contain_set", "label", value_set=labels)
    yield _expect("expect_column_values_to_be_in_set", "class_name", value_set=list(class_names))
    yield _expect(
        "expect_column_kl_divergence_to_be_less_than",
        "label",
        severity="warning",
        partition_object={"values": labels, "weights": [1 / len(labels)] * len(labels)},
        threshold=(1 - BALANCE) * math.log(max(2, len(labels))),
        row_condition="label >= 0",
        condition_parser="pandas",
    )


def _shape(sample_shape: Sequence[int]) -> Iterator[Expectation]:
    for name, value in zip(("channels", "height", "width"), sample_shape, strict=True):
        yield _expect("expect_column_values_to_be_in_set", name, value_set=[value])


def _pixels() -> Iterator[Expectation]:
    yield _expect("expect_column_values_to_be_between", "mean", min_value=0, max_value=1)
    yield _expect("expect_column_values_to_be_between", "std", min_value=0, max_value=STD_MAX)
    constant: dict[str, Any] = {"min_value": 0, "strict_min": True}
    yield _expect("expect_column_values_to_be_between", "std", mostly=1 - CONSTANT_SHARE_MAX, **constant)
    yield _expect("expect_column_values_to_be_between", "std", severity="warning", **constant)


def _expect(kind: str, column: str, *, severity: Severity = "critical", **kwargs: Any) -> Expectation:
    return Expectation(kind, {"column": column, **kwargs}, severity)
