"""Small flat files that `dvc metrics` and `dvc plots` read: one metrics.json and long-form CSV tables."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from components.artifacts.artifact import Artifact, write_json
from components.report.style import ARMS, TITLES

LOSS_COLUMNS = ("loss_total", "loss_distillation", "loss_hard", "validation_loss")
DIGITS = 6
"""More would show differences in `dvc metrics diff` that nobody can mean."""


def flat_metrics(evaluation: Artifact) -> dict[str, float]:
    """The few numbers that two experiments are compared by; a gain is above zero where the student is better."""
    metrics = evaluation.read_json("metrics.json")
    primary, student = metrics["primary"]["metric"], metrics["student"]
    change = metrics["differences"]["student_minus_baseline"][primary]
    sign = 1 if metrics["primary"]["better"] == "higher" else -1
    low, high = sorted((sign * change["low"], sign * change["high"]))
    values = {
        **student,
        "gain_over_hard_labels": sign * change["difference"],
        "gain_low": low,
        "gain_high": high,
        f"teacher_{primary}": metrics["teacher"][primary],
        f"hard_labels_{primary}": metrics["baseline"][primary],
    }
    return {name: value if isinstance(value, int) else round(value, DIGITS) for name, value in values.items()}


def write_evaluation_files(folder: Path, evaluation: Artifact) -> None:
    """metrics.json, and the workload's tables in plots/."""
    write_json(folder / "metrics.json", flat_metrics(evaluation))
    (folder / "plots").mkdir(parents=True, exist_ok=True)
    for table in sorted(evaluation.root.glob("*.csv")):
        shutil.copyfile(table, folder / "plots" / table.name)


def write_learning_curve(path: Path, models: Mapping[str, Artifact]) -> None:
    """One row an arm and epoch; *models* by step name, those that were not trained here are left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    histories = {arm.name: _history(models[arm.name]) for arm in ARMS if arm.name in models}
    columns = tuple(dict.fromkeys((*LOSS_COLUMNS, *_validated(histories), "learning_rate")))
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("arm", "epoch", *columns))
        for arm, records in histories.items():
            writer.writerows(
                (TITLES[arm], record["epoch"], *(_cell(record.get(name)) for name in columns)) for record in records
            )


def _history(model: Artifact) -> Sequence[Mapping[str, Any]]:
    records: Sequence[Mapping[str, Any]] = (
        model.read_json("history.json") if model.file("history.json").exists() else ()
    )
    return records


def _validated(histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """What was measured on the validation split."""
    for records in histories.values():
        for record in records:
            yield from (name for name in record if name.startswith("validation_"))


def _cell(value: float | None) -> float | str:
    """An empty cell where an arm has no such loss."""
    return "" if value is None else round(value, DIGITS)
