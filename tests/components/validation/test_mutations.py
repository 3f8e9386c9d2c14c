"""Every way to spoil a data version is caught, by the expectation that says what is wrong; clean ones pass."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from components.contracts import Severity
from components.params import ExpectationParams, ValidationParams

pytestmark = pytest.mark.slow
Mutator = Callable[[pd.DataFrame], pd.DataFrame]


def _set(column: str, value: object, rows: slice = slice(None)) -> Mutator:
    def mutate(table: pd.DataFrame) -> pd.DataFrame:
        values = table[column].astype(object)
        values.iloc[rows] = value
        return table.assign(**{column: values.infer_objects()})

    return mutate


def _scale(column: str, factor: float) -> Mutator:
    return lambda table: table.assign(**{column: table[column] * factor})


def _label(table: pd.DataFrame, labels: "pd.Series[int]") -> pd.DataFrame:
    names = np.array(["circle", "square", "star"], dtype=object)
    return table.assign(label=labels, class_name=names[labels])


def _repeat(table: pd.DataFrame, *, split: str) -> pd.DataFrame:
    copies = table.iloc[: len(table) // 20].assign(split=split)
    joined = pd.concat([table, copies], ignore_index=True)
    return joined.assign(sample_index=np.arange(len(joined)))


def _without_class(table: pd.DataFrame) -> pd.DataFrame:
    kept = table[table["label"] != 1].reset_index(drop=True)
    return kept.assign(sample_index=np.arange(len(kept)))


def _unbalanced(table: pd.DataFrame) -> pd.DataFrame:
    return _label(table, table["label"].where(table.index % 20 == 0, 0))


def _flip_labels(table: pd.DataFrame) -> pd.DataFrame:
    return _label(table, table["label"].where(table.index % 2 == 0, 2))


def _swap_columns(table: pd.DataFrame) -> pd.DataFrame:
    return table[[*table.columns[:3], table.columns[4], table.columns[3], *table.columns[5:]]]


IN_SET = "expect_column_values_to_be_in_set"
BETWEEN = "expect_column_values_to_be_between"
NOT_NULL = "expect_column_values_to_not_be_null"
OF_TYPE = "expect_column_values_to_be_in_type_list"
UNIQUE = "expect_column_values_to_be_unique"
ROWS = "expect_table_row_count_to_be_between"
ORDER = "expect_table_columns_to_match_ordered_list"
COLUMNS = "expect_table_columns_to_match_set"
COPIES = "expect_column_proportion_of_unique_values_to_be_between"
NOT_EMPTY = "expect_column_proportion_of_non_null_values_to_be_between"
CLASSES = "expect_column_distinct_values_to_contain_set"
SAME_CLASSES = "expect_column_distinct_values_to_equal_set"
BALANCE = "expect_column_kl_divergence_to_be_less_than"

MUTATIONS: dict[str, tuple[Mutator, str, str, Severity]] = {
    "empty table": (lambda table: table.iloc[:0], ROWS, "", "critical"),
    "too few rows": (lambda table: table.iloc[:99], ROWS, "", "critical"),
    "half of the rows lost": (lambda table: table.iloc[:299], ROWS, "", "warning"),
    "mean all null": (_set("mean", None), NOT_NULL, "mean", "critical"),
    "one mean is NaN": (_set("mean", np.nan, slice(5, 6)), NOT_NULL, "mean", "critical"),
    "one std is infinite": (_set("std", np.inf, slice(5, 6)), BETWEEN, "std", "critical"),
    "one mean is minus infinity": (_set("mean", -np.inf, slice(5, 6)), BETWEEN, "mean", "critical"),
    "one label is null": (_set("label", None, slice(5, 6)), NOT_NULL, "label", "critical"),
    "a labelled sample without class name": (_set("class_name", None, slice(5, 6)), NOT_NULL, "class_name", "critical"),
    "one source is null": (_set("source", None, slice(5, 6)), NOT_NULL, "source", "critical"),
    "sample ids all null": (_set("sample_id", None), NOT_NULL, "sample_id", "critical"),
    "a source column all null": (_set("slant", None), NOT_EMPTY, "slant", "warning"),
    "5 % copies": (lambda table: _repeat(table, split="train"), COPIES, "sample_id", "critical"),
    "5 % copies left out": (lambda table: _repeat(table, split="left_out"), COPIES, "sample_id", "critical"),
    "training samples in the test split": (lambda table: _repeat(table, split="test"), UNIQUE, "sample_id", "critical"),
    "one sample in two splits": (
        lambda table: table.assign(sample_id=[table["sample_id"][1], *table["sample_id"][1:]]),
        UNIQUE,
        "sample_id",
        "critical",
    ),
    "an index twice": (_set("sample_index", 7, slice(6, 7)), UNIQUE, "sample_index", "critical"),
    "class missing": (_without_class, CLASSES, "label", "critical"),
    "class lost since the last version": (_without_class, SAME_CLASSES, "class_name", "warning"),
    "class renamed": (lambda table: table.replace({"class_name": {"star": "sun"}}), IN_SET, "class_name", "critical"),
    "label outside the set": (_set("label", 3, slice(5, 6)), IN_SET, "label", "critical"),
    "label -2": (_set("label", -2, slice(5, 6)), IN_SET, "label", "critical"),
    "unbalanced": (_unbalanced, BALANCE, "label", "warning"),
    "half of the labels flipped": (_flip_labels, BETWEEN, "drift label", "warning"),
    "column renamed": (lambda table: table.rename(columns={"mean": "average"}), ORDER, "", "critical"),
    "column dropped": (lambda table: table.drop(columns="std"), ORDER, "", "critical"),
    "columns swapped": (_swap_columns, ORDER, "", "critical"),
    "source column added": (lambda table: table.assign(colour="red"), COLUMNS, "", "warning"),
    "source column dropped": (lambda table: table.drop(columns="camera"), COLUMNS, "", "warning"),
    "labels as text": (lambda table: table.assign(label=table["label"].astype(str)), OF_TYPE, "label", "critical"),
    "labels as floats": (lambda table: table.assign(label=table["label"] * 1.0), OF_TYPE, "label", "critical"),
    "mean as text": (lambda table: table.assign(mean=table["mean"].astype(str)), OF_TYPE, "mean", "critical"),
    "height as float": (lambda table: table.assign(height=table["height"] * 1.0), OF_TYPE, "height", "critical"),
    "source as number": (lambda table: table.assign(source=range(len(table))), OF_TYPE, "source", "critical"),
    "one class name is a number": (_set("class_name", 5, slice(5, 6)), OF_TYPE, "class_name", "critical"),
    "source column as text": (
        lambda table: table.assign(slant=table["slant"].astype(str)),
        OF_TYPE,
        "slant",
        "warning",
    ),
    "source column turned whole": (
        lambda table: table.assign(slant=table["slant"].astype(int)),
        OF_TYPE,
        "slant",
        "warning",
    ),
    "pixels in 0..255": (_scale("mean", 255), BETWEEN, "mean", "critical"),
    "spread in 0..255": (_scale("std", 255), BETWEEN, "std", "critical"),
    "2 % of constant pictures": (_set("std", 0.0, slice(0, 12)), BETWEEN, "std", "critical"),
    "one constant picture": (_set("std", 0.0, slice(0, 1)), BETWEEN, "std", "warning"),
    "one wider picture": (_set("width", 9, slice(5, 6)), IN_SET, "width", "critical"),
    "one taller picture": (_set("height", 9, slice(5, 6)), IN_SET, "height", "critical"),
    "one picture in colour": (_set("channels", 3, slice(5, 6)), IN_SET, "channels", "critical"),
    "another split": (_set("split", "holdout", slice(5, 6)), IN_SET, "split", "critical"),
    "brighter pictures": (lambda table: table.assign(mean=table["mean"] + 0.05), BETWEEN, "drift mean", "warning"),
    "flatter pictures": (_scale("std", 0.8), BETWEEN, "drift std", "warning"),
    "source column shifted": (lambda table: table.assign(slant=table["slant"] + 1), BETWEEN, "drift slant", "warning"),
    "source column in another unit": (_scale("slant", 1000), BETWEEN, "drift slant", "warning"),
    "source column a fifth null": (_set("slant", None, slice(0, 120)), BETWEEN, "drift slant", "warning"),
    "another camera": (_set("camera", "third", slice(0, 200)), BETWEEN, "drift camera", "warning"),
    "only one camera": (_set("camera", "left"), BETWEEN, "drift camera", "warning"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_every_mutation_is_caught(name, make_table, validate, reference):
    """A spoilt version fails the expectation that names what is wrong, with the severity that it deserves."""
    mutate, expectation, subject, severity = MUTATIONS[name]

    report = validate(mutate(make_table()), reference=reference)

    found = {(failure.expectation, failure.subject, failure.severity) for failure in report.failures}
    assert (expectation, subject or "table", severity) in found, report.text()
    assert report.success == (severity != "critical") or name in ("class lost since the last version",)


def test_clean_resamples_raise_no_alarm(make_table, validate, reference):
    """20 versions drawn from the same population pass every check, drift included, small versions too."""
    alarms = [
        report.text()
        for seed in range(20)
        if (report := validate(make_table(seed=seed, num_rows=(600, 310)[seed % 2]), reference=reference)).failures
    ]

    assert alarms == []


def test_small_versions_do_not_drift_by_chance(make_table, validate):
    """At 100 samples the index is above 0.2 by chance alone, and that is allowed."""
    from components.validation.profile import drifts, plain, profile

    reference = profile(plain(make_table(num_rows=100, seed=100)))
    moved = [drifts(reference, plain(make_table(num_rows=100, seed=seed))) for seed in range(20)]

    assert max(drift.psi for each in moved for drift in each.values()) > 0.2
    assert all(drift.psi < max(0.2, drift.by_chance) for each in moved for drift in each.values())


def test_drift_can_stop_the_flow(make_table, validate, reference):
    """drift_severity says what a drift is."""
    params = ValidationParams(drift_severity="critical")

    report = validate(make_table().assign(slant=5.0), reference=reference, params=params)

    assert [failure.subject for failure in report.critical] == ["drift slant"]
    assert not report.success


def test_an_expectation_on_a_column_of_nulls_does_not_pass(make_table, validate):
    """A user's own range check on an all-null column would hold of nothing: the guard on it is critical then."""
    own = ExpectationParams(type=BETWEEN, kwargs={"column": "slant", "min_value": -9, "max_value": 9})

    report = validate(make_table().assign(slant=np.nan), params=ValidationParams(expectations=(own,)))

    assert [(failure.expectation, failure.column) for failure in report.critical] == [(NOT_EMPTY, "slant")]


def test_unlabelled_samples_are_welcome(make_table, validate, reference):
    """A pool without labels (-1, no class name) breaks no expectation; it only drifts from a version without one."""
    table = make_table()
    pool = table.index % 3 == 0
    table = table.assign(label=table["label"].where(~pool, -1), class_name=table["class_name"].where(~pool, None))

    assert validate(table).failures == ()
    assert [failure.subject for failure in validate(table, reference=reference).failures] == ["drift label"]
