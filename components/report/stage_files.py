"""Small flat files that `dvc metrics` and `dvc plots` read: one metrics.json and long-form CSV tables."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from components.artifacts.artifact import Artifact, write_json
from components.report.style import ARMS, TITLES

HISTORY_COLUMNS = (
    "loss_total",
    "loss_distillation",
    "loss_hard",
    "validation_loss",
    "validation_accuracy",
    "learning_rate",
)
DIGITS = 6
"""More would show differences in `dvc metrics diff` that nobody can mean."""


def flat_metrics(evaluation: Artifact) -> dict[str, float]:
    """The few numbers that two experiments are compared by."""
    metrics = evaluation.read_json("metrics.json")
    student, change = metrics["student"], metrics["differences"]["student_minus_baseline"]
    values = {
        **{name: student[name] for name in ("accuracy", "nll", "ece", "agreement_with_teacher", "kl_to_teacher")},
        "accuracy_low": student["accuracy_low"],
        "accuracy_high": student["accuracy_high"],
        "gain_over_hard_labels": change["accuracy"]["difference"],
        "gain_low": change["accuracy"]["low"],
        "gain_high": change["accuracy"]["high"],
        "teacher_accuracy": metrics["teacher"]["accuracy"],
        "hard_labels_accuracy": metrics["baseline"]["accuracy"],
        "num_parameters": student["num_parameters"],
        "weight_bytes": student["weight_bytes"],
    }
    return {name: value if isinstance(value, int) else round(value, DIGITS) for name, value in values.items()}


def write_evaluation_files(folder: Path, evaluation: Artifact) -> None:
    """metrics.json, plots/confusion.csv and plots/reliability.csv."""
    write_json(folder / "metrics.json", flat_metrics(evaluation))
    (folder / "plots").mkdir(parents=True, exist_ok=True)
    for name in ("confusion.csv", "reliability.csv"):
        shutil.copyfile(evaluation.file(name), folder / "plots" / name)


def write_learning_curve(path: Path, models: Mapping[str, Artifact]) -> None:
    """One row an arm and epoch; *models* by step name, those that were not trained here are left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("arm", "epoch", *HISTORY_COLUMNS))
        writer.writerows(row for arm in ARMS if arm.name in models for row in _history_rows(arm.name, models[arm.name]))


def _history_rows(arm: str, model: Artifact) -> Iterator[Sequence[Any]]:
    if not model.file("history.json").exists():
        return
    for record in model.read_json("history.json"):
        yield (TITLES[arm], record["epoch"], *(_cell(record.get(name)) for name in HISTORY_COLUMNS))


def _cell(value: float | None) -> float | str:
    """An empty cell where an arm has no such loss."""
    return "" if value is None else round(value, DIGITS)
