"""What every data version of labelled images must satisfy, on the table with one row a sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from components.contracts import DataSpec, Expectation
from components.workloads._classification import label_expectations
from components.workloads._expectations import expect

CONSTANT_SHARE_MAX = 0.01
"""More pictures of a single colour than this are a broken decoder, not content."""
STD_MAX = 0.5
"""Of values in 0..1: half of them 0, half of them 1."""


def image_expectations(data: DataSpec) -> Sequence[Expectation]:
    """Label set and balance, shape, and pixel statistics scaled to 0..1."""
    return (*label_expectations(data.class_names), *_shape(data.sample_shape), *_pixels())


def _shape(sample_shape: Sequence[int]) -> Iterator[Expectation]:
    for name, value in zip(("channels", "height", "width"), sample_shape, strict=True):
        yield expect("expect_column_values_to_be_in_set", name, value_set=[value])


def _pixels() -> Iterator[Expectation]:
    yield expect("expect_column_values_to_be_between", "mean", min_value=0, max_value=1)
    yield expect("expect_column_values_to_be_between", "std", min_value=0, max_value=STD_MAX)
    constant: dict[str, Any] = {"min_value": 0, "strict_min": True}
    yield expect("expect_column_values_to_be_between", "std", mostly=1 - CONSTANT_SHARE_MAX, **constant)
    yield expect("expect_column_values_to_be_between", "std", severity="warning", **constant)
