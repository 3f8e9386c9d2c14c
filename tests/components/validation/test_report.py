"""Reports that stay short however bad the data is."""

import json

from components.validation.report import CheckFailure, ValidationReport, merge


def _failure(index, severity="critical"):
    return CheckFailure(
        table="samples",
        expectation="expect_column_values_to_be_between",
        column=f"column{index}",
        severity=severity,
        expected="min_value 0",
        observed="60000 of 60000 rows failing",
        failing_count=60000,
        examples=tuple(f"train|{index}/{row}.png (-1)" for row in range(5)),
    )


def test_rendering_is_bounded():
    """Ten checks and five examples, then a count of the rest."""
    report = ValidationReport(60000, 50, tuple(_failure(index) for index in range(40)))

    assert len(report.text().splitlines()) == 12
    assert "and 30 more" in report.text()
    assert "and 30 more" in report.markdown()
    assert len(report.text()) < 3000


def test_markdown_cells_cannot_break_the_table():
    """A bar in a file's name is escaped."""
    report = ValidationReport(10, 5, (_failure(0),))
    row = report.markdown().splitlines()[4]

    assert row.replace("\\|", "").count("|") == 7


def test_a_clean_report_is_one_line():
    """Nothing to list, nothing listed."""
    report = ValidationReport(3500, 41, ())

    assert report.success
    assert report.text() == "41 of 41 checks hold on 3500 samples"
    assert report.markdown() == "41 of 41 checks hold on 3500 samples.\n"


def test_the_most_severe_come_first():
    """Reports of several tables merge by severity, then in order."""
    first = ValidationReport(10, 3, (_failure(0, "info"), _failure(1)))
    second = ValidationReport(1, 2, (_failure(2, "warning"), _failure(3)))

    merged = merge([first, second])

    assert [failure.column for failure in merged.failures] == ["column1", "column3", "column2", "column0"]
    assert (merged.num_rows, merged.num_checks, merged.success) == (10, 5, False)


def test_json_round_trip():
    """What result.json holds reads back equal."""
    report = ValidationReport(10, 3, (_failure(0, "warning"),))

    assert ValidationReport.from_json(json.loads(json.dumps(report.as_json()))) == report
