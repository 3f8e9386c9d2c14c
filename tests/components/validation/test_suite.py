"""The suite as plain data: guards that are always there, and thresholds that come from the parameters."""

import json

import pytest

from components.params import ExpectationParams, ValidationParams
from components.validation import suite
from components.validation.profile import Drift
from components.workloads._image_expectations import image_expectations

ROWS = "expect_table_row_count_to_be_between"
DESCRIBED = {"length": "integer", "share": "real", "script": "text"}
COPIES = "expect_column_proportion_of_unique_values_to_be_between"


def _suite(params=None, *, workload=(), extra=(), reference=None):
    columns = [*suite.CORE_COLUMNS, *DESCRIBED, *extra]
    params = params or ValidationParams()
    return suite.sample_expectations(params, workload, described=DESCRIBED, columns=columns, reference=reference)


def _find(expectations, kind, **kwargs):
    return [each for each in expectations if each.type == kind and kwargs.items() <= each.kwargs.items()]


def test_guards_stand_without_any_parameter():
    """Rows, exact columns, types and nulls of every column are expected whatever the user wrote."""
    found = _suite()

    assert _find(found, ROWS, min_value=100)
    assert _find(found, "expect_table_columns_to_match_ordered_list", column_list=[*suite.CORE_COLUMNS, *DESCRIBED])
    for name in (*suite.CORE_COLUMNS, *DESCRIBED):
        assert _find(found, "expect_column_values_to_not_be_null", column=name)
        assert _find(found, "expect_column_values_to_be_in_type_list", column=name)
    assert all(each.severity == "critical" for each in found)


@pytest.mark.parametrize(("share", "least"), [(0.01, 0.99), (0.06, 0.94), (0.1, 0.9), (0.0, 1.0), (1.0, 0.0)])
def test_duplicate_share_is_a_bound_on_distinct_ids(share, least):
    """The bound is the exact decimal, so that a set with just that share passes."""
    (found,) = _find(_suite(ValidationParams(duplicate_share_max=share)), COPIES)

    assert found.kwargs["min_value"] == least


def test_user_expectations_keep_their_order_and_severity():
    """They come as written, after the guards and the workload's."""
    own = (
        ExpectationParams(
            type="expect_column_max_to_be_between", kwargs={"column": "mean", "max_value": 1}, severity="info"
        ),
        ExpectationParams(type="expect_column_to_exist", kwargs={"column": "camera"}),
    )

    found = _suite(ValidationParams(expectations=own))

    assert [(each.type, each.severity) for each in found[-2:]] == [(each.type, each.severity) for each in own]


def test_class_shares_are_checked_only_when_asked_for():
    """A smallest share of 0 asks for nothing."""
    assert suite.class_expectations(ValidationParams()) == ()
    (found,) = suite.class_expectations(ValidationParams(class_share_min=0.05))
    assert found.kwargs == {"column": "share", "min_value": 0.05}


def test_drift_bound_is_never_below_chance():
    """What two samples of one population reach by themselves is allowed; the user's bound holds above that."""
    params = ValidationParams(drift_max=0.2, drift_severity="critical")

    found = suite.drift_expectations(params, {"mean": Drift(0.3, 0.05), "std": Drift(0.3, 0.5)})

    assert [(each.kwargs["column"], each.kwargs["max_value"]) for each in found] == [("mean", 0.2), ("std", 0.5)]
    assert {each.severity for each in found} == {"critical"}


def test_the_suite_is_json(spec, reference):
    """Everything in it can be written down, as the artifact does."""
    found = _suite(workload=image_expectations(spec), extra=["slant", "camera"], reference=reference)

    assert json.loads(json.dumps(suite.as_json(found))) == suite.as_json(found)
