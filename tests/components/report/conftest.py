"""A finished run without training: artifacts of the real layout whose logits are drawn from one seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.artifacts.artifact import MANIFEST, MEASURED, Artifact, Manifest, write_json
from components.contracts import DataSpec
from components.evaluation.holdout import Holdout, holdout_digest
from components.gate import Decision, Reason
from components.params import Params
from components.report.data import ReportData, StepRecord
from components.steps import evaluate

CLASSES = tuple(str(digit) for digit in range(10))
PARAMS: dict[str, Any] = {
    "data": {"repository": ".", "path": "data/digits", "revision": "v1", "format": {"name": "image_folder"}},
    "workload": {"name": "image_classification"},
    "teacher": {"model": {"name": "convnet"}},
    "student": {"model": {"name": "mlp"}, "objective": {"name": "kd", "temperature": 4.0}},
    "evaluate": {"bootstrap_resamples": 200},
    "gate": {"floor": 0.9},
    "registry": {"student": "digits-student", "teacher": "digits-teacher"},
}


@pytest.fixture(scope="session")
def params() -> Params:
    return Params.model_validate(PARAMS)


def artifact(root: Path, kind: str) -> Artifact:
    """An artifact of *kind* over the files in *root*; its digest is made up."""
    digest = (kind.encode().hex() * 64)[:64]
    manifest = Manifest(kind, digest, {}, (), (), digest, "run-1", {}, "2026-01-01T00:00:00+00:00", {"seconds": 40.0})
    (root / MANIFEST).write_text(manifest.dump(), encoding="utf-8")
    return Artifact(kind=kind, key=digest, digest=digest, root=root)


def drawn_logits(labels: np.ndarray, *, sharpness: float, seed: int, num_classes: int = 10) -> np.ndarray:
    """[N, C] float32: noise, plus *sharpness* at the label."""
    noise = np.random.default_rng(seed).normal(size=(len(labels), num_classes))
    noise[np.arange(len(labels)), labels] += sharpness
    return (2 * noise).astype(np.float32)


def history(*, distilled: bool, epochs: int = 12) -> list[dict[str, Any]]:
    return [
        {
            "epoch": epoch,
            "loss_total": 2.0 * 0.8**epoch,
            "loss_distillation": 9.0 * 0.75**epoch if distilled else None,
            "loss_hard": 1.5 * 0.8**epoch,
            "validation_loss": 1.0 * 0.85**epoch,
            "validation_accuracy": 0.96 - 0.4 * 0.7**epoch - (0 if distilled else 0.01),
            "learning_rate": 0.1,
        }
        for epoch in range(epochs)
    ]


@pytest.fixture
def make_report(tmp_path: Path, params: Params) -> Callable[..., ReportData]:
    """Build a ReportData; arguments set how good each arm is."""

    def make(**options: Any) -> ReportData:
        return finished_run(tmp_path / "run", params, **options)

    return make


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory, params: Params) -> tuple[ReportData, Path]:
    """A report and its page, written once for all tests that only read it."""
    from components.report.page import write_report

    root = tmp_path_factory.mktemp("written")
    report = finished_run(root / "run", params)
    return report, write_report(root / "report", report)


def finished_run(
    root: Path,
    params: Params,
    *,
    class_names: tuple[str, ...] = CLASSES,
    num_rows: int = 400,
    teacher: float = 5.0,
    baseline: float = 3.4,
    student: float = 3.8,
    outcome: str = "promote",
    samples: np.ndarray | None = None,
    labels: np.ndarray | None = None,
) -> ReportData:
    draw = np.random.default_rng(0)
    labels = draw.integers(0, len(class_names), num_rows) if labels is None else labels
    samples = draw.integers(0, 256, (len(labels), 1, 8, 8), dtype=np.uint8) if samples is None else samples
    holdout = Holdout(np.arange(len(labels)), labels, holdout_digest(np.zeros((len(labels), 16), np.uint8), labels))
    spec = DataSpec(samples.shape[1:], class_names, (0.1,), (0.3,), 1000)
    sharp = {"teacher": teacher, "baseline": baseline, "student": student}
    logits = {
        arm: drawn_logits(labels, sharpness=value, seed=seed, num_classes=len(class_names))
        for seed, (arm, value) in enumerate(sharp.items())
    }
    costs = {
        "teacher": {"num_parameters": 116_602, "weight_bytes": 466_400},
        "baseline": {"num_parameters": 19_090, "weight_bytes": 76_500},
        "student": {"num_parameters": 19_090, "weight_bytes": 76_500},
    }
    folders = {name: root / name for name in ("data", "teacher", "baseline", "student", "evaluate", "soft_targets")}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    np.save(folders["data"] / "samples.npy", samples)
    for arm in sharp:
        write_json(folders[arm] / "history.json", history(distilled=arm == "student"))
    out = folders["evaluate"]
    evaluate._write_predictions(out, logits, holdout)
    evaluate.write_results(out, params, spec, holdout, logits=logits, costs=costs)
    write_json(out / MEASURED / "latency.json", latency())
    write_json(folders["soft_targets"] / "soft_targets.json", soft_targets())
    return ReportData(
        artifacts={name: artifact(folder, name) for name, folder in folders.items()},
        params=params,
        decision=decision(outcome),
        lineage={
            "data repository": "var/example-registry",
            "data revision": "v1",
            "data commit": "5f" * 20,
            "data md5": "ab" * 16 + ".dir",
            "code commit": "0d" * 20,
            "flow run": "sincere-otter",
        },
        steps=[
            StepRecord("data", True, "calm-heron", 0.1, 3.2),
            StepRecord("teacher", True, "calm-heron", 0.1, 96.0),
            StepRecord("student", False, "sincere-otter", 21.0, 21.0),
        ],
    )


def latency() -> dict[str, Any]:
    def cell(p50: float) -> dict[str, float]:
        return {"latency_p50_ms": p50, "latency_p95_ms": 1.4 * p50, "throughput_per_second": 1000 / p50}

    return {
        "teacher": {"1": cell(0.9), "64": cell(21.0)},
        "baseline": {"1": cell(0.08), "64": cell(0.21)},
        "student": {"1": cell(0.08), "64": cell(0.2)},
    }


def soft_targets() -> dict[str, Any]:
    error = {temperature: {"mean_kl": 1e-7, "p99_kl": 1e-6} for temperature in ("1.0", "4.0", "20.0")}
    return {
        "codec": "fp16", "num_views": 8, "num_rows": 2600, "num_classes": 10, "row_stride_bytes": 20, "error": error,
    }  # fmt: skip


def decision(outcome: str) -> Decision:
    floor_text = "accuracy 0.95 is at least 0.9 (the floor)"
    reasons = (
        Reason("finite metrics", True, "all 6 metrics are finite"),
        Reason("floor", True, floor_text, 0.95, 0.9),
        Reason(
            "champion",
            outcome != "refuse",
            "accuracy is 0.95; at least 0.955 (the champion's 0.965 less the margin 0.01)",
        ),
    )
    return Decision(outcome, reasons, "accuracy")  # type: ignore[arg-type]
