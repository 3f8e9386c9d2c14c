"""The full list of expectations on a data version, as plain data: guards, workload, the user's own, drift."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from components.contracts import SPLITS, ColumnKind, Expectation, LabelKind, Severity
from components.params import ValidationParams
from components.validation.profile import UNLABELLED_NAME, Drift, Profile

INTEGER = ("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8")
REAL = ("float64", "float32")
TEXT = ("str",)
CORE_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "sample_index": INTEGER,
    "source": TEXT,
    "sample_id": TEXT,
    "label": INTEGER,
    "class_name": TEXT,
    "split": TEXT,
}
"""What the data step writes first, in this order, with the types that each may have."""
OF_CLASSES = ("label", "class_name")
"""Those of the core columns that labels which are numbers do without; each of them is a further column."""
KINDS: Mapping[ColumnKind, tuple[str, ...]] = {"integer": INTEGER, "real": REAL, "text": TEXT}
"""Of the columns in which the workload describes a sample, which come next."""
LEFT_OUT = "left_out"
"""In column split: dropped copies, and what no split wants."""
COMPARABLE = (*INTEGER, *REAL, *TEXT, "bool")
MIN_ROWS_OF_REFERENCE = 0.5
"""A version with less than this share of the last accepted one's samples has probably lost some."""


def sample_expectations(
    params: ValidationParams,
    workload: Sequence[Expectation],
    *,
    described: Mapping[str, ColumnKind],
    labels: LabelKind = "classes",
    columns: Sequence[str],
    reference: Profile | None,
) -> tuple[Expectation, ...]:
    """Everything expected of the table with one row a sample, whose columns are *columns*.

    *described* are those in which the workload describes a sample.

    The guards come first and are never absent: by itself Great Expectations passes an empty table,
    a column of nulls and an empty suite.
    """
    types = {**core_columns(labels), **{name: KINDS[kind] for name, kind in described.items()}}
    extra = [name for name in columns if name not in types]
    own = user_expectations(params)
    return (
        *_guards(params, types, extra),
        *_guards_of_extra(extra, own),
        *workload,
        *own,
        *(_like_reference(reference, extra, params.drift_severity) if reference else ()),
    )


def core_columns(labels: LabelKind) -> Mapping[str, tuple[str, ...]]:
    return {name: types for name, types in CORE_COLUMNS.items() if labels == "classes" or name not in OF_CLASSES}


def user_expectations(params: ValidationParams) -> tuple[Expectation, ...]:
    return tuple(Expectation(each.type, each.kwargs, each.severity) for each in params.expectations)


def class_expectations(params: ValidationParams) -> tuple[Expectation, ...]:
    """On the table with one row a class; none if no smallest share is asked for."""
    if not params.class_share_min:
        return ()
    return (_expect("expect_column_values_to_be_between", column="share", min_value=params.class_share_min),)


def drift_expectations(params: ValidationParams, drifts: Mapping[str, Drift]) -> tuple[Expectation, ...]:
    """On the table with one row and, for each column of the samples, its population stability index.

    In small data sets the index is large by chance alone: what chance explains is always allowed.
    """
    return tuple(
        _expect(
            "expect_column_values_to_be_between",
            severity=params.drift_severity,
            column=name,
            min_value=0,
            max_value=max(params.drift_max, drift.by_chance),
        )
        for name, drift in drifts.items()
    )


def as_json(expectations: Sequence[Expectation]) -> list[dict[str, Any]]:
    return [{"type": each.type, "kwargs": dict(each.kwargs), "severity": each.severity} for each in expectations]


def _guards(
    params: ValidationParams, types: Mapping[str, tuple[str, ...]], extra: Sequence[str]
) -> Iterator[Expectation]:
    yield _expect("expect_table_row_count_to_be_between", min_value=params.min_rows)
    yield _expect("expect_table_columns_to_match_ordered_list", column_list=[*types, *extra])
    for name, allowed in types.items():
        yield _expect("expect_column_values_to_be_in_type_list", column=name, type_list=list(allowed))
    for name in types:
        # Samples without a label have no class name.
        where: dict[str, Any] = (
            {"row_condition": "label >= 0", "condition_parser": "pandas"} if name == "class_name" else {}
        )
        yield _expect("expect_column_values_to_not_be_null", column=name, **where)
    yield _expect("expect_column_values_to_be_in_set", column="split", value_set=[*SPLITS, LEFT_OUT])
    yield _expect("expect_column_values_to_be_unique", column="sample_index")
    # One picture in two splits would be trained on and tested with.
    kept: dict[str, Any] = {"row_condition": f'split != "{LEFT_OUT}"', "condition_parser": "pandas"}
    yield _expect("expect_column_values_to_be_unique", column="sample_id", **kept)
    yield _expect(
        "expect_column_proportion_of_unique_values_to_be_between",
        column="sample_id",
        min_value=round(1 - params.duplicate_share_max, 12),
    )


def _guards_of_extra(extra: Sequence[str], own: Sequence[Expectation]) -> Iterator[Expectation]:
    """A column without a single value: worth a word, and fatal where the user's own expectation would pass on it."""
    relied_on = {name for each in own for name in _columns_of(each)}
    for name in extra:
        severity: Severity = "critical" if name in relied_on else "warning"
        yield _expect(
            "expect_column_proportion_of_non_null_values_to_be_between",
            severity=severity,
            column=name,
            min_value=0,
            strict_min=True,
        )


def _columns_of(expectation: Expectation) -> Iterator[str]:
    for argument in ("column", "column_A", "column_B"):
        if argument in expectation.kwargs:
            yield str(expectation.kwargs[argument])
    yield from map(str, expectation.kwargs.get("column_list", ()))


def _like_reference(reference: Profile, extra: Sequence[str], severity: Severity) -> Iterator[Expectation]:
    yield _expect(
        "expect_table_row_count_to_be_between",
        severity=severity,
        min_value=math.ceil(MIN_ROWS_OF_REFERENCE * reference.num_rows),
    )
    yield _expect(
        "expect_table_columns_to_match_set", severity=severity, column_set=list(reference.dtypes), exact_match=True
    )
    if "label" in reference.histograms:
        names = [name for name in reference.histograms["label"].bins if name != UNLABELLED_NAME]
        yield _expect(
            "expect_column_distinct_values_to_equal_set", severity=severity, column="class_name", value_set=names
        )
    for name in extra:
        if reference.dtypes.get(name) in COMPARABLE:
            yield _expect(
                "expect_column_values_to_be_in_type_list",
                severity=severity,
                column=name,
                type_list=[reference.dtypes[name]],
            )


def _expect(kind: str, *, severity: Severity = "critical", **kwargs: Any) -> Expectation:
    return Expectation(kind, kwargs, severity)
