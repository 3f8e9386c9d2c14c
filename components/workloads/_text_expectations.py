"""What every data version of labelled texts must satisfy, on the table with one row a sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from components.contracts import DataSpec, Expectation
from components.workloads._classification import label_expectations
from components.workloads._expectations import expect
from components.workloads._text_columns import NO_SCRIPT

if TYPE_CHECKING:
    from components.workloads.text_classification import Params

MOST = 0.95
"""Of the texts: some numbers and some foreign words are in every collection."""
USED = {"row_condition": 'split != "left_out"', "condition_parser": "pandas"}


def text_expectations(data: DataSpec, params: Params) -> Sequence[Expectation]:
    """Label set and balance, encoding, length, what was cut, hints of the language, and near copies."""
    return (
        *label_expectations(data.class_names),
        *_encoding(),
        *_length(data.sample_shape[0], params),
        *_language(params),
        *_near_copies(params),
    )


def _encoding() -> Iterator[Expectation]:
    yield expect("expect_column_values_to_be_in_set", "bad_bytes", value_set=[0])


def _length(max_bytes: int, params: Params) -> Iterator[Expectation]:
    yield expect("expect_column_values_to_be_between", "num_bytes", min_value=1, max_value=max_bytes)
    yield expect("expect_column_values_to_be_between", "num_words", min_value=params.min_words)
    if params.max_words:
        yield expect("expect_column_values_to_be_between", "num_words", max_value=params.max_words)
    yield expect("expect_column_values_to_be_in_set", "cut", value_set=[False], mostly=1 - params.cut_share_max)


def _language(params: Params) -> Iterator[Expectation]:
    yield expect(
        "expect_column_values_to_be_between",
        "letter_share",
        severity="warning",
        min_value=params.letter_share_min,
        max_value=1,
        mostly=MOST,
    )
    yield expect("expect_column_values_to_be_between", "ascii_share", min_value=0, max_value=1)
    if params.script:
        allowed = [params.script, NO_SCRIPT]
        yield expect("expect_column_values_to_be_in_set", "script", value_set=allowed, mostly=MOST)


def _near_copies(params: Params) -> Iterator[Expectation]:
    """In two splits they leak; within one they only count twice. Exact copies are the guards' business."""
    mostly = 1 - params.near_copy_share_max
    yield expect("expect_column_values_to_be_unique", "normal_id", severity="warning", mostly=mostly, **USED)
