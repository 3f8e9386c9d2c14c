"""The report of a run whose labels are numbers: an error in the labels' own unit, and less of it is better."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.artifacts.artifact import Artifact
from components.contracts import DataSpec
from components.evaluation.holdout import Holdout
from components.params import Params
from components.report import table
from components.report.data import ReportData
from components.report.findings import find
from components.report.plots import figures
from components.report.stage_files import flat_metrics, write_evaluation_files
from components.steps.evaluate import write_results

SPEC = DataSpec(
    (2,), (), (0.0, 0.0), (1.0, 1.0), 9, "float32", target_names=("y",), target_mean=(150.0,), target_std=(50.0,)
)
PARAMS = Params.model_validate(
    {
        "data": {"repository": ".", "path": "d", "format": {"name": "table", "target_columns": ["y"]}},
        "workload": {"name": "tabular_regression"},
        "teacher": {"model": {"name": "mlp"}},
        "student": {"model": {"name": "mlp", "hidden": [2]}, "objective": {"name": "regression_kd"}},
        "gate": {"metric": "rmse", "floor": 60},
        "registry": {"student": "s", "teacher": "t"},
    }
)
COSTS = {"num_parameters": 10, "weight_bytes": 100}


def report_of(folder: Path, *, baseline: float, student: float) -> ReportData:
    """300 test samples; errors of these sizes, drawn independently."""
    draw = np.random.default_rng(0)
    labels = draw.normal(150, 50, (300, 1)).astype(np.float32)
    sizes = {"teacher": 20.0, "baseline": baseline, "student": student}
    said = {arm: (labels + draw.normal(0, size, (300, 1))).astype(np.float32) for arm, size in sizes.items()}
    holdout = Holdout(np.arange(300), labels, "0" * 64)
    folder.mkdir()
    write_results(folder, PARAMS, SPEC, holdout, logits=said, costs=dict.fromkeys(said, COSTS))
    return ReportData(artifacts={"evaluate": Artifact("evaluate", "k", "d", folder)}, params=PARAMS)


def test_less_error_is_a_gain(tmp_path: Path) -> None:
    """Said as such, with the share of the gap to the teacher, and without samples that are right or wrong."""
    report = report_of(tmp_path / "run", baseline=40, student=30)
    found = find(report.metrics, report.workload)

    assert found.verdict == "gain"
    assert found.headline.startswith("Distillation lowered RMSE by ")
    assert "−" not in found.headline
    assert any("closes" in sentence for sentence in found.sentences)
    assert not any("McNemar" in sentence for sentence in found.sentences)


def test_more_error_is_a_loss(tmp_path: Path) -> None:
    """And the hard labels are the better choice."""
    report = report_of(tmp_path / "run", baseline=30, student=40)
    found = find(report.metrics, report.workload)

    assert found.verdict == "loss"
    assert found.headline.startswith("Distillation raised RMSE by ")


def test_the_table_has_the_workloads_lines(tmp_path: Path) -> None:
    """In the labels' unit, and the fidelity to the teacher."""
    report = report_of(tmp_path / "run", baseline=40, student=30)
    lines = {line.label: line for line in table.final_table(report).lines if not line.detail}

    assert list(lines)[:4] == ["RMSE", "MAE", "R²", "RMSE to teacher"]
    assert lines["RMSE"].values[2] == f"{report.metrics['student']['rmse']:.2f}"
    assert lines["RMSE"].change.startswith("−")
    assert "calibration, ECE" not in lines


def test_a_gain_is_above_zero_for_dvc(tmp_path: Path) -> None:
    """Whatever the direction of the metric; the predictions are there to plot."""
    report = report_of(tmp_path / "run", baseline=40, student=30)
    found = flat_metrics(report.evaluation)
    write_evaluation_files(tmp_path / "out", report.evaluation)

    assert found["gain_over_hard_labels"] == pytest.approx(found["hard_labels_rmse"] - found["rmse"], abs=1e-5)
    assert 0 < found["gain_low"] < found["gain_over_hard_labels"] < found["gain_high"]
    assert [path.name for path in (tmp_path / "out" / "plots").iterdir()] == ["predictions.csv"]


def test_figures_of_numbers(tmp_path: Path) -> None:
    """Predictions against labels, and nothing about classes."""
    assert set(figures(report_of(tmp_path / "run", baseline=40, student=30))) == {
        "rmse_by_parameters",
        "predictions_1_teacher",
        "predictions_1_baseline",
        "predictions_1_student",
    }
