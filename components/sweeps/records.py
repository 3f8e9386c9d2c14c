"""What MLflow is told of a sweep: one run, and a nested one for each student, made of committed results alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from components.params import SEED
from components.records import Lineage, step_record
from components.sweeps.conduct import Sweep
from components.sweeps.results import SweepResult, TrialResult
from components.sweeps.space import described, sweep_of
from components.tracking import MetricPoint, RunSpec, flatten

SWEEP_TAG, TRIAL_TAG, STATE_TAG, FAILURE_TAG = (
    f"potstill.{name}" for name in ("sweep", "trial", "trial.state", "failure")
)
OF_THE_FILE = {"trials", "processes", "timeout_minutes"}
"""What may change while a sweep stays the same."""


def sweep_record(
    sweep: Sweep, result: SweepResult, lineage: Lineage, *, note: str, draw: Callable[[Path], None]
) -> RunSpec:
    """The parent run: what was swept, what is recommended, the page. A sweep that has grown fills it in again."""
    chosen = result.recommendation
    metrics = {
        "trials": float(len(result.complete)),
        **({f"recommended/validation_{result.metric}": chosen.trial.value(result.metric)} if chosen else {}),
        **({f"hard_labels/validation_{result.metric}": result.control.value(result.metric)} if result.control else {}),
    }
    told = [[trial.number, trial.state, [each.digest for each in trial.students]] for trial in result.trials]
    return RunSpec(
        name=f"sweep {result.name}",
        identity=f"sweep-{result.name}",
        tags={**lineage.tags, SWEEP_TAG: result.name, "mlflow.note.content": note},
        params=flatten({"sweep": sweep_of(sweep.params).model_dump(mode="json", exclude=OF_THE_FILE)}),
        metrics=[MetricPoint(name, value, len(result.trials), 0) for name, value in metrics.items()],
        dataset=lineage.dataset,
        draw=draw,
        contents=hashlib.sha256(json.dumps(told).encode()).hexdigest(),
    )


def trial_records(sweep: Sweep, result: SweepResult, lineage: Lineage) -> Iterator[RunSpec]:
    """A run for each student, one for each trial that has none, and those of hard labels."""
    for trial in result.trials:
        yield from _students(sweep, result, trial, lineage) if trial.students else (_without(result, trial, lineage),)
    for trial in result.hard_labels:
        yield from _students(sweep, result, trial, lineage)


def _students(sweep: Sweep, result: SweepResult, trial: TrialResult, lineage: Lineage) -> Iterator[RunSpec]:
    kind = "student" if trial.number >= 0 else "baseline"
    label = f"trial {trial.number}" if trial.number >= 0 else "hard labels"
    for student in trial.students:
        artifact = sweep.store.find(kind, student.key)
        assert artifact is not None, "it was found a moment ago"
        record = step_record(artifact, lineage)
        yield replace(
            record,
            name=f"{label}: {described(trial.values)}, seed {student.seed}",
            identity=f"{result.name}-{record.identity}",
            tags={**record.tags, SWEEP_TAG: result.name, TRIAL_TAG: str(trial.number), STATE_TAG: trial.state},
            params={**record.params, **flatten({**trial.values, SEED: student.seed})},
            metrics=[point for point in record.metrics if not point.key.startswith("system/")],
            artifacts=(),
        )


def _without(result: SweepResult, trial: TrialResult, lineage: Lineage) -> RunSpec:
    """A trial that was pruned or failed has left nothing but that."""
    return RunSpec(
        name=f"trial {trial.number}: {described(trial.values)}",
        identity=f"{result.name}-trial-{trial.number}",
        tags={
            **lineage.tags,
            SWEEP_TAG: result.name,
            TRIAL_TAG: str(trial.number),
            STATE_TAG: trial.state,
            FAILURE_TAG: trial.reason,
        },
        params=flatten(dict(trial.values)),
        dataset=lineage.dataset,
        status="KILLED" if trial.state == "pruned" else "FAILED",
    )
