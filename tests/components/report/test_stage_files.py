"""The files that `dvc metrics` and `dvc plots` read."""

import csv
import json
from pathlib import Path

from components.report.stage_files import flat_metrics, write_evaluation_files, write_learning_curve


def test_metrics_are_flat_numbers(make_report) -> None:
    """Names to numbers, six digits, the gain with its interval."""
    report = make_report()
    found = flat_metrics(report.evaluation)
    assert all(isinstance(value, int | float) for value in found.values())
    gain = report.metrics["student"]["accuracy"] - report.metrics["baseline"]["accuracy"]
    assert found["gain_over_hard_labels"] == round(gain, 6)
    assert found["gain_low"] <= found["gain_over_hard_labels"] <= found["gain_high"]


def test_evaluation_files(make_report, tmp_path: Path) -> None:
    """metrics.json and two tables in long form."""
    report = make_report()
    write_evaluation_files(tmp_path, report.evaluation)
    assert json.loads((tmp_path / "metrics.json").read_text()) == flat_metrics(report.evaluation)
    with (tmp_path / "plots" / "confusion.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 400
    with (tmp_path / "plots" / "reliability.csv").open() as stream:
        assert {line["arm"] for line in csv.DictReader(stream)} == {"teacher", "baseline", "student"}


def test_learning_curve_is_long(make_report, tmp_path: Path) -> None:
    """A row an arm and epoch; a loss that an arm does not have is an empty cell."""
    report = make_report()
    path = tmp_path / "plots" / "learning_curve.csv"
    write_learning_curve(path, {name: report.artifacts[name] for name in ("data", "student", "baseline")})
    with path.open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["arm"] for row in rows] == ["hard labels"] * 12 + ["distilled"] * 12
    assert {row["loss_distillation"] == "" for row in rows[:12]} == {True}
    assert float(rows[12]["loss_distillation"]) == 9.0
