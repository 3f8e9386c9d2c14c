"""What MLflow is told of a run: one RunSpec a step, made of committed results alone, so that it can be told again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from components.artifacts.artifact import MEASURED, Artifact, Manifest
from components.tracking import DatasetRef, MetricPoint, RunSpec, epoch_metrics, flatten, system_metrics

if TYPE_CHECKING:
    from components.report.data import ReportData

Status = Literal["FINISHED", "FAILED", "KILLED"]
DOCUMENTS = {
    "data": ("data.json",),
    "validate": ("result.json", f"{MEASURED}/data_docs"),
    "teacher": ("model.json", "metrics.json"),
    "soft_targets": ("soft_targets.json", "quality.json"),
    "baseline": ("model.json", "metrics.json"),
    "student": ("model.json", "metrics.json"),
    "evaluate": ("metrics.json", "confusion.csv", "reliability.csv", f"{MEASURED}/latency.json"),
    "export": ("parity.json",),
}
"""Files and folders of each step's artifact that are worth a look in MLflow."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where everything came from, as tags of runs and of model versions."""

    tags: Mapping[str, str]
    dataset: DatasetRef


def lineage_of(
    artifacts: Mapping[str, Artifact], notes: Mapping[str, Any], facts: Mapping[str, str], *, data_name: str
) -> Lineage:
    """*notes* are those of the data step (repository, path, revision, commit), *facts* what the run itself knows."""
    data = artifacts["data"].manifest()
    md5 = str(data.fields["facts"]["md5"])
    tags = {
        **{f"data.{name}": str(notes.get(name, "")) for name in ("repository", "path", "revision", "commit")},
        "data.md5": md5,
        **{f"{name}.digest": artifact.digest for name, artifact in artifacts.items()},
        **{f"{name}.key": artifact.key for name, artifact in artifacts.items()},
        **facts,
    }
    source = f"{notes.get('repository', '')}/{notes.get('path', '')}@{notes.get('commit', '')}"
    return Lineage(tags=tags, dataset=DatasetRef(name=data_name, digest=md5, source=source))


def step_record(artifact: Artifact, lineage: Lineage, draw: Callable[[Path], None] | None = None) -> RunSpec:
    """The child run of one step's result."""
    manifest = artifact.manifest()
    start_ms = _start_ms(manifest)
    return RunSpec(
        name=artifact.kind,
        identity=f"{artifact.kind}-{artifact.key}-{artifact.digest}",
        tags={**lineage.tags, "potstill.producer": manifest.producer, "potstill.digest": artifact.digest},
        params=flatten(manifest.fields["params"]),
        metrics=(*_values(artifact, start_ms), *_course(artifact, start_ms), *_load(artifact, start_ms)),
        dataset=lineage.dataset,
        artifacts=[
            (artifact.file(name), _folder(name)) for name in DOCUMENTS[artifact.kind] if artifact.file(name).exists()
        ],
        draw=draw,
        start_ms=start_ms,
        end_ms=start_ms + round(manifest.cost.get("seconds", 0) * 1000),
    )


def parent_record(
    name: str,
    children: Sequence[RunSpec],
    lineage: Lineage,
    params: Mapping[str, Any],
    *,
    status: Status,
    failure: str = "",
) -> RunSpec:
    """The run above the steps; its identity is what its steps came to, under these parameters."""
    identity = json.dumps([[child.identity for child in children], params, status, failure], sort_keys=True)
    evaluated = [point for child in children if child.name == "evaluate" for point in child.metrics]
    return RunSpec(
        name=name,
        identity=hashlib.sha256(identity.encode()).hexdigest(),
        tags={**lineage.tags, **({"potstill.failure": failure} if failure else {})},
        params=flatten(params),
        metrics=[point for point in evaluated if not point.key.startswith("system/")],
        dataset=lineage.dataset,
        status=status,
        start_ms=min((child.start_ms for child in children if child.start_ms), default=None),
    )


def decision_record(report: ReportData, lineage: Lineage, draw: Callable[[Path], None]) -> RunSpec:
    """The child run of one decision of the gate, with the report that it was made on."""
    assert report.decision is not None
    decided = report.decision.to_json()
    student = report.artifacts["student"]
    identity = json.dumps([student.digest, report.evaluation.digest, decided], sort_keys=True)
    return RunSpec(
        name="gate",
        identity=hashlib.sha256(identity.encode()).hexdigest(),
        tags={
            **lineage.tags,
            "gate.outcome": report.decision.outcome,
            "mlflow.note.content": report.decision.summary(),
        },
        params=flatten({"gate": report.params.gate.model_dump(mode="json")}),
        dataset=replace(lineage.dataset, context="gate"),
        draw=draw,
    )


def _start_ms(manifest: Manifest) -> int:
    ended = datetime.fromisoformat(manifest.created).timestamp()
    return round((ended - manifest.cost.get("seconds", 0)) * 1000)


def _folder(name: str) -> str:
    return "data_docs" if name.endswith("data_docs") else ""


def _values(artifact: Artifact, at_ms: int) -> list[MetricPoint]:
    """Every number in the step's own JSON of results, under its dotted name."""
    names = {"evaluate": "metrics.json", "soft_targets": "quality.json", "export": "parity.json"}
    name = names.get(artifact.kind, "metrics.json")
    tree = artifact.read_json(name) if artifact.file(name).exists() else {}
    cost = {f"cost/{key}": value for key, value in artifact.manifest().cost.items() if _is_number(value)}
    found = {key: value for key, value in _numbers(tree).items() if not key.startswith("per_class")}
    return [MetricPoint(_metric_name(key), float(value), 0, at_ms) for key, value in {**found, **cost}.items()]


def _course(artifact: Artifact, start_ms: int) -> list[MetricPoint]:
    history = artifact.file("history.json")
    return epoch_metrics(artifact.read_json("history.json"), at_ms=start_ms) if history.exists() else []


def _load(artifact: Artifact, start_ms: int) -> list[MetricPoint]:
    samples = artifact.measured("system.json")
    return (
        system_metrics(json.loads(samples.read_text(encoding="utf-8")), start_ms=start_ms) if samples.exists() else []
    )


def _numbers(tree: Any, prefix: str = "") -> dict[str, float]:
    items = tree.items() if isinstance(tree, Mapping) else enumerate(tree)
    flat: dict[str, float] = {}
    for key, value in items:
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping | list):
            flat |= _numbers(value, name)
        elif _is_number(value):
            flat[name] = value
    return flat


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _metric_name(dotted: str) -> str:
    """MLflow allows letters, digits and a few signs in the names of metrics."""
    return "".join(sign if sign.isalnum() or sign in "_-./ " else "_" for sign in dotted)
