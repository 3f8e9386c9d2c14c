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
from components.report.table import value_interval, written
from components.tracking import DatasetRef, MetricPoint, RunSpec, epoch_metrics, flatten, system_metrics

if TYPE_CHECKING:
    from components.report.data import ReportData

Status = Literal["FINISHED", "FAILED", "KILLED"]
DOCUMENTS = {
    "data": ("data.json",),
    "validate": ("result.json", f"{MEASURED}/data_docs"),
    "teacher": ("model.json", "metrics.json"),
    "fold_teachers": ("folds.json", "metrics.json"),
    "soft_targets": ("soft_targets.json", "quality.json"),
    "baseline": ("model.json", "metrics.json"),
    "student": ("model.json", "metrics.json"),
    "evaluate": ("metrics.json", "*.csv", f"{MEASURED}/latency.json"),
    "export": ("parity.json",),
}
"""Files and folders of each step's artifact that are worth a look in MLflow, as glob patterns."""
RESULTS = {
    "data": "data.json",
    "validate": "result.json",
    "teacher": "metrics.json",
    "fold_teachers": "metrics.json",
    "soft_targets": "quality.json",
    "baseline": "metrics.json",
    "student": "metrics.json",
    "evaluate": "metrics.json",
    "export": "parity.json",
}
"""The JSON file of each step whose numbers are its metrics."""
PRODUCER_TAG, FINGERPRINT_TAG = "potstill.producer", "potstill.fingerprint"
COST = "system/step_"
"""How the metrics begin that say what a step's result had cost."""
TRAINED = ("teacher", "baseline", "student")
NO_METRICS = frozenset({"per_class", "labelled", "unlabelled", "confidence"})
"""Tables, which the files show better, and a parameter."""


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
        "code.digest": _code_digest(artifacts),
        **{f"{name}.digest": artifact.digest for name, artifact in artifacts.items()},
        **{f"{name}.key": artifact.key for name, artifact in artifacts.items()},
        **facts,
    }
    source = f"{notes.get('repository', '')}/{notes.get('path', '')}@{notes.get('commit', '')}"
    return Lineage(tags=tags, dataset=DatasetRef(name=data_name, digest=md5, source=source))


def _code_digest(artifacts: Mapping[str, Artifact]) -> str:
    """Of all modules that computed any of *artifacts*."""
    modules = {name: code for made in artifacts.values() for name, code in made.manifest().fields["code"].items()}
    return hashlib.sha256(json.dumps(modules, sort_keys=True).encode()).hexdigest()


def step_identity(step: str, key: str, digest: str) -> str:
    """By which the run of a step's result is found in MLflow."""
    return f"{step}-{key}-{digest}"


def step_record(artifact: Artifact, lineage: Lineage, draw: Callable[[Path], None] | None = None) -> RunSpec:
    """The child run of one step's result."""
    manifest = artifact.manifest()
    start_ms = _start_ms(manifest)
    return RunSpec(
        name=artifact.kind,
        identity=step_identity(artifact.kind, artifact.key, artifact.digest),
        tags={
            **lineage.tags,
            PRODUCER_TAG: manifest.producer,
            FINGERPRINT_TAG: json.dumps(dict(manifest.fingerprint), sort_keys=True),
            "potstill.digest": artifact.digest,
        },
        params=flatten(manifest.fields["params"]),
        metrics=(*_values(artifact, start_ms), *_course(artifact, start_ms), *_load(artifact, start_ms)),
        dataset=lineage.dataset,
        artifacts=[
            (found, _folder(found.name))
            for pattern in DOCUMENTS[artifact.kind]
            for found in sorted(artifact.root.glob(pattern))
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
    note: str = "",
) -> RunSpec:
    """The run above the steps; its identity is what its steps came to, under these parameters; *note* is Markdown."""
    identity = json.dumps([[child.identity for child in children], params, status, failure], sort_keys=True)
    evaluated = [point for child in children if child.name == "evaluate" for point in child.metrics]
    return RunSpec(
        name=name,
        identity=hashlib.sha256(identity.encode()).hexdigest(),
        tags={
            **lineage.tags,
            **({"potstill.failure": failure} if failure else {}),
            **({"mlflow.note.content": note or failure} if note or failure else {}),
        },
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


def student_note(report: ReportData) -> str:
    """What a registered student is and how well it did, for the list of versions; Markdown."""
    params, metrics = report.params, report.metrics
    size = metrics["student"]["num_parameters"]
    name, measure = report.primary
    ratio = metrics["teacher"]["num_parameters"] / size
    smaller = (
        f"{ratio:.1f} times fewer than its teacher ({params.teacher.in_words})" if ratio else "taught by a black box"
    )
    return (
        f"{params.student.model.name} with {size:,} parameters, {smaller}; "
        f"objective {params.student.objective.in_words()}. "
        f"{_test_score(report, 'student')}; its teacher {written(measure, metrics['teacher'][name])}, "
        f"the same model on hard labels alone {written(measure, metrics['baseline'][name])}."
    )


def teacher_note(report: ReportData) -> str:
    """What a registered teacher is and how well it did, for the list of versions; Markdown."""
    size = report.metrics["teacher"]["num_parameters"]
    return f"{report.params.teacher.in_words} with {size:,} parameters. {_test_score(report, 'teacher')}."


def _test_score(report: ReportData, arm: str) -> str:
    found, data = report.metrics[arm], report.params.data
    name, measure = report.primary
    span = value_interval(measure, found[f"{name}_low"], found[f"{name}_high"])
    return (
        f"Test {measure.title} {written(measure, found[name])} ({span}) "
        f"on {report.metrics['holdout']['num_rows']:,} samples of {data.path} at {data.revision}"
    )


def name_note(name: str, what: str, alias: str = "") -> str:
    """What the versions of a registered model have in common, and how to load one; Markdown."""
    stands = f" The alias `{alias}` stands on the version that the gate let through last." if alias else ""
    address = f"models:/{name}@{alias}" if alias else f"models:/{name}/<version>"
    return (
        f"{what}.{stands} The program takes a batch of any size and gives float32 [rows, outputs]; the signature has the "
        f'shapes and types. Load it with `mlflow.pytorch.load_model("{address}")`.'
    )


def _start_ms(manifest: Manifest) -> int:
    ended = datetime.fromisoformat(manifest.created).timestamp()
    return round((ended - manifest.cost.get("seconds", 0)) * 1000)


def _folder(name: str) -> str:
    return "data_docs" if name.endswith("data_docs") else ""


def _values(artifact: Artifact, at_ms: int) -> list[MetricPoint]:
    """Every number in the step's own JSON of results, and what it cost as a whole among the system metrics."""
    tree = artifact.read_json(RESULTS[artifact.kind])
    prefix = "final/validation_" if artifact.kind in TRAINED else ""
    found = {f"{prefix}{name}": value for name, value in _numbers(tree).items()}
    cost = {f"{COST}{name}": value for name, value in artifact.manifest().cost.items() if _is_number(value)}
    return [MetricPoint(_metric_name(name), float(value), 0, at_ms) for name, value in {**found, **cost}.items()]


def _course(artifact: Artifact, start_ms: int) -> list[MetricPoint]:
    if not artifact.file("history.json").exists():
        return []
    points = epoch_metrics(artifact.read_json("history.json"), at_ms=start_ms)
    return [point for point in points if artifact.kind == "student" or point.key != "loss_distillation"]


def _load(artifact: Artifact, start_ms: int) -> list[MetricPoint]:
    samples = artifact.measured("system.json")
    return (
        system_metrics(json.loads(samples.read_text(encoding="utf-8")), start_ms=start_ms) if samples.exists() else []
    )


def _numbers(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[str, float]:
    """'group/rest.of.the.name' -> number: MLflow shows one block of charts a group. Keys that are numbers are temperatures."""
    flat: dict[str, float] = {}
    for key, value in tree.items():
        place = (*path, f"T{key}" if key[:1].isdigit() else key)
        if isinstance(value, Mapping) and key not in NO_METRICS:
            flat |= _numbers(value, place)
        elif _is_number(value) and key not in NO_METRICS:
            flat[".".join(place).replace(".", "/", 1) if path else key] = value
    return flat


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _metric_name(dotted: str) -> str:
    """MLflow allows letters, digits and a few signs in the names of metrics."""
    return "".join(sign if sign.isalnum() or sign in "_-./ " else "_" for sign in dotted)
