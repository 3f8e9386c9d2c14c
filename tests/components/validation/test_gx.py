"""The door to Great Expectations: the same report every time, silent, and closed to expectations that say nothing."""

import logging
import subprocess
import sys
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from components.contracts import Expectation
from components.errors import BadInputError
from components.validation import gx

BETWEEN = "expect_column_values_to_be_between"


def _small_table():
    return pd.DataFrame({"source": ["a.png", "b.png", "c.png"], "mean": [0.1, 0.2, 7.0], "label": [0, 1, 1]})


def _check(*expectations, docs_dir=None, table=None):
    table = _small_table() if table is None else table
    return gx.validate_table(table, expectations, docs_dir=docs_dir, suite_name="samples")


def test_failures_name_the_samples():
    """A failing value comes with its sample, the count and what was expected."""
    report = _check(Expectation(BETWEEN, {"column": "mean", "min_value": 0, "max_value": 1}))

    (failure,) = report.failures
    assert (failure.examples, failure.failing_count) == (("c.png (7)",), 1)
    assert failure.line == (
        "mean: column values to be between (min_value 0, max_value 1); found 1 of 3 rows failing, such as c.png (7)"
    )
    assert not report.success


def test_warnings_and_infos_do_not_stop_the_flow():
    """Only critical failures make a report unsuccessful; the most severe come first."""
    low, high = {"column": "mean", "max_value": 1}, {"column": "label", "max_value": 0}

    report = _check(Expectation(BETWEEN, low, "info"), Expectation(BETWEEN, high, "warning"))

    assert report.success
    assert [failure.severity for failure in report.warnings] == ["warning", "info"]


def test_one_expectation_twice_keeps_its_severities():
    """The same check as a warning, and, more leniently, as critical, stays two checks."""
    strict = Expectation(BETWEEN, {"column": "mean", "max_value": 1}, "warning")
    lenient = Expectation(BETWEEN, {"column": "mean", "max_value": 1, "mostly": 0.5}, "critical")

    report = _check(strict, lenient, strict)

    assert report.num_checks == 3
    assert [failure.severity for failure in report.failures] == ["warning", "warning"]


def test_failures_stand_in_the_order_of_the_suite():
    """Whatever order Great Expectations evaluates in, equally severe failures come as they were written."""
    columns = ["mean", "label", "mean", "source"]
    suite = [Expectation("expect_column_values_to_be_null", {"column": name}) for name in columns]

    assert [failure.column for failure in _check(*suite).failures] == columns


def test_every_problem_of_an_expectation_is_named_at_once():
    """Unknown types and arguments are listed together, each by its place, with the likely meaning."""
    wrong = [
        Expectation("expect_column_values_to_be_beetween", {"column": "mean"}),
        Expectation(BETWEEN, {"column": "mean", "min_value": 0}),
        Expectation(BETWEEN, {"colum": "mean", "max_valu": 1}),
        Expectation(BETWEEN, {"column": "mean", "min_value": 0, "severity": "warning"}),
        Expectation("expect_column_values_to_be_in_set", {"column": "mean", "value_set": 3}),
    ]

    with pytest.raises(BadInputError) as caught:
        gx.require_valid(wrong, place="validation.expectations")

    message = str(caught.value)
    assert "validation.expectations[0].type: Great Expectations has no 'expect_column_values_to_be_beetween'" in message
    assert f"did you mean '{BETWEEN}'?" in message
    assert "validation.expectations[2].kwargs.column: is required" in message
    assert "validation.expectations[2].kwargs.colum: " in message
    assert "did you mean 'column'?" in message
    assert "did you mean 'max_value'?" in message
    assert "validation.expectations[3].kwargs.severity: " in message
    assert "validation.expectations[4].kwargs.value_set: " in message
    assert "expectations[1]" not in message


def test_a_suite_of_nothing_is_refused():
    """A suite without expectations would pass whatever the data, so it is an error."""
    with pytest.raises(BadInputError, match="'samples' holds no expectation"):
        _check()


def test_what_cannot_be_evaluated_fails():
    """A missing column or values of another type are failures that say so, not exceptions and not passes."""
    report = _check(
        Expectation(BETWEEN, {"column": "means", "min_value": 0}),
        Expectation(BETWEEN, {"column": "source", "min_value": 0}, "warning"),
    )

    missing, unlike = report.failures
    assert missing.observed == "no such column; did you mean 'mean'?"
    assert unlike.observed.startswith("nothing: it could not be evaluated (")


def test_equal_tables_give_equal_reports(make_table, validate, reference, tmp_path):
    """The report holds no clock, run id or path: two runs, one of them with Data Docs, are equal to the letter."""
    table = make_table(seed=3).assign(std=0.0, slant=9.0)

    first = validate(table, reference=reference)
    second = validate(table, reference=reference, docs_dir=tmp_path / "docs")

    assert first.failures
    assert first.as_json() == second.as_json()
    assert str(tmp_path) not in str(second.as_json())


def test_the_data_docs_call_nobody_and_begin_with_the_verdict(tmp_path):
    """Every failure and every page can be reached from index.html, and the tracking picture is gone."""
    _check(Expectation(BETWEEN, {"column": "mean", "max_value": 1}), docs_dir=tmp_path)

    index = (tmp_path / "index.html").read_text()
    pages = [page.relative_to(tmp_path).as_posix() for page in tmp_path.rglob("*.html") if page.name != "index.html"]
    assert "The data may not be used" in index
    assert "c.png (7)" in index
    assert len(pages) == 2
    assert all(f'href="{page}"' in index for page in pages)
    for page in tmp_path.rglob("*.html"):
        assert "amazonaws" not in page.read_text()
        assert "dataContextId" not in page.read_text()
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 500_000


def test_nothing_is_left_behind(tmp_path, monkeypatch, capfd):
    """No output, no temporary folder, no import path, and the log level and warning filters as they were."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = (list(sys.path), list(warnings.filters), logging.getLogger("great_expectations").level)

    _check(Expectation(BETWEEN, {"column": "mean", "max_value": 1}), docs_dir=tmp_path / "docs")

    assert (list(sys.path), list(warnings.filters), logging.getLogger("great_expectations").level) == before
    assert [path.name for path in tmp_path.iterdir()] == ["docs"]
    assert capfd.readouterr() == ("", "")


def test_threads_do_not_mix_their_reports():
    """Validations at the same time give each caller its own report."""

    def validate(limit):
        return _check(Expectation(BETWEEN, {"column": "mean", "max_value": limit})).success

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(validate, [1, 9, 1, 9])) == [False, True, False, True]


def test_parquet_text_has_a_type_that_can_be_checked(tmp_path):
    """Text read back from Parquet counts as str, which the library's own type check does not see in new pandas."""
    _small_table().to_parquet(tmp_path / "table.parquet")
    of_text = Expectation("expect_column_values_to_be_in_type_list", {"column": "source", "type_list": ["str"]})

    assert _check(of_text, table=pd.read_parquet(tmp_path / "table.parquet")).success


def test_the_step_imports_no_heavy_library():
    """Importing the step, and with it the parts that run on a cached result, needs neither GX, pandas nor numpy."""
    heavy = "great_expectations", "pandas", "numpy", "torch"
    code = f"import components.steps.validate, sys; print([name for name in {heavy!r} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
