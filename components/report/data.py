"""What a report is made from: artifacts by the name of their step, and what the run knows besides."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from components.artifacts.artifact import Artifact
from components.contracts import Measure, Workload
from components.gate import Decision
from components.params import Params
from components.schedules import value_at

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class StepRecord:
    """How one step of this run came by its result."""

    name: str
    cached: bool
    producer: str
    """The run that made the result."""
    seconds: float
    """That it took now."""
    seconds_when_made: float
    """That it took when it was computed; equal to *seconds*, or nearly, unless it was cached."""


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything optional but the evaluation: what is missing is left out of the report, not guessed."""

    artifacts: Mapping[str, Artifact]
    """By step: evaluate is needed; data, teacher, baseline, student, soft_targets make it richer."""
    params: Params
    decision: Decision | None = None
    lineage: Mapping[str, Any] = field(default_factory=dict)
    """Label -> value, shown in this order."""
    steps: Sequence[StepRecord] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    """Text -> address, for example of the MLflow run; shown as text, nothing is loaded from there."""

    @property
    def evaluation(self) -> Artifact:
        return self.artifacts["evaluate"]

    @property
    def metrics(self) -> Mapping[str, Any]:
        values: Mapping[str, Any] = self.evaluation.read_json("metrics.json")
        return values

    @property
    def workload(self) -> Workload:
        return self.params.workload.build()

    @property
    def primary(self) -> tuple[str, Measure]:
        """The metric that arms are compared by, and what it is."""
        name = self.workload.primary_metric
        return name, self.workload.measures[name]

    @property
    def temperature(self) -> float:
        """Of the objective, at the end of the training; 4 where it has none."""
        return value_at(getattr(self.params.student.objective, "temperature", 4.0), 1.0)

    def latency(self) -> Mapping[str, Mapping[str, Mapping[str, float]]]:
        """Arm -> batch size -> measured values; empty if the measurements did not travel with the artifact."""
        path = self.evaluation.measured("latency.json")
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def history(self, arm: str) -> Sequence[Mapping[str, Any]]:
        """One record an epoch; empty for a model that was not trained here."""
        model = self.artifacts.get(arm)
        if model is None or not model.file("history.json").exists():
            return ()
        records: Sequence[Mapping[str, Any]] = model.read_json("history.json")
        return records

    def logits(self, arm: str) -> NDArray[np.float32]:
        """[N, C] on the holdout."""
        return self.array(f"logits_{arm}.npy")

    def table(self, name: str) -> Sequence[Mapping[str, str]]:
        """The rows of one of the workload's tables; none if it has no such table."""
        path = self.evaluation.file(f"{name}.csv")
        if not path.exists():
            return ()
        with path.open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))

    def array(self, name: str) -> NDArray[Any]:
        import numpy as np

        return np.load(self.evaluation.file(name), allow_pickle=False)
