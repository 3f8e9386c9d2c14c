"""The evaluate step on real artifacts with tiny models that were never trained."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from components.artifacts.artifact import Artifact, FileEntry, payload_digest, sha256_of, write_json
from components.contracts import DataSpec, NoProgress
from components.evaluation.fidelity import mean_kl
from components.evaluation.metrics import accuracy
from components.params import Params
from components.saved_models import save_model
from components.settings import Settings
from components.steps.evaluate import STEP
from components.steps.step import Resolved, StepContext

PARAMS = {
    "data": {"repository": ".", "path": "data", "format": {"name": "image_folder"}},
    "workload": {"name": "image_classification", "calibration_bins": 5},
    "teacher": {"model": {"name": "mlp", "hidden": [16]}},
    "student": {"model": {"name": "mlp", "hidden": []}, "objective": {"name": "kd"}},
    "evaluate": {"bootstrap_resamples": 100, "latency_batches": [1, 3], "latency_repeats": 10},
    "gate": {"floor": 0.1},
    "registry": {"student": "s", "teacher": "t"},
}
SPEC = DataSpec((1, 6, 6), ("circle", "cross", "dot"), (0.5,), (0.3,), 60)
ROWS = 90


@pytest.fixture
def params() -> Params:
    return Params.model_validate(PARAMS)


@pytest.fixture
def inputs(tmp_path: Path, params: Params) -> dict[str, Artifact]:
    """A data artifact of which a third is the test split, and three models with random weights."""
    found = {name: Artifact(name, name, name, tmp_path / name) for name in STEP.inputs}
    for artifact in found.values():
        artifact.root.mkdir()
    write_data(found["data"].root)
    for seed, (name, model) in enumerate(
        (("teacher", params.teacher.model), ("baseline", params.student.model), ("student", params.student.model))
    ):
        torch.manual_seed(seed)
        save_model(found[name].root, model.build(SPEC), model, SPEC)
    return found


def write_data(root: Path) -> None:
    draw = np.random.default_rng(0)
    np.save(root / "samples.npy", draw.integers(0, 256, (ROWS, 1, 6, 6), dtype=np.uint8))
    np.save(root / "labels.npy", np.where(np.arange(ROWS) == 2, -1, np.arange(ROWS) // 3 % 3))
    np.save(root / "splits.npy", (np.arange(ROWS) % 3).astype(np.uint8))
    np.save(root / "sample_ids.npy", draw.integers(0, 256, (ROWS, 16), dtype=np.uint8))
    spec = {"class_names": SPEC.class_names, "sample_shape": SPEC.sample_shape, "num_train": SPEC.num_train}
    write_json(root / "data.json", {**spec, "channel_mean": SPEC.channel_mean, "channel_std": SPEC.channel_std})


def run(out: Path, inputs: dict[str, Artifact], params: Params, settings: Settings) -> Path:
    out.mkdir()
    STEP.run(StepContext(params, settings, inputs, Resolved(), out, out, NoProgress()))
    return out


def digest_of(out: Path) -> str:
    files = [path for path in out.rglob("*") if path.is_file() and "measured" not in path.parts]
    return payload_digest(tuple(FileEntry(path.name, path.stat().st_size, sha256_of(path)) for path in files))


def test_payload(tmp_path: Path, inputs: dict[str, Artifact], params: Params, settings: Settings) -> None:
    """Every arm has its metrics, interval, fidelity and size; logits belong to the labelled test rows."""
    out = run(tmp_path / "out", inputs, params, settings)
    metrics = json.loads((out / "metrics.json").read_text())
    rows = np.load(out / "test_rows.npy")
    labels = np.load(out / "labels.npy")
    assert rows.tolist() == list(range(5, ROWS, 3)), "row 2 has no label"
    assert metrics["holdout"]["num_rows"] == len(rows) == len(labels)
    for arm in ("teacher", "baseline", "student"):
        logits = np.load(out / f"logits_{arm}.npy")
        assert (logits.shape, logits.dtype) == ((len(rows), 3), np.float32)
        assert metrics[arm]["accuracy"] == accuracy(logits, labels)
        assert metrics[arm]["accuracy_low"] <= metrics[arm]["accuracy"] <= metrics[arm]["accuracy_high"]
        assert metrics[arm]["weight_bytes"] == inputs[arm].file("weights.safetensors").stat().st_size
    assert metrics["teacher"]["agreement_with_teacher"] == 1.0
    assert metrics["teacher"]["kl_to_teacher"] == 0.0
    logits = {arm: np.load(out / f"logits_{arm}.npy") for arm in ("teacher", "student")}
    assert metrics["student"]["kl_to_teacher"] == mean_kl(logits["teacher"], logits["student"]) > 0
    assert metrics["student"]["num_parameters"] == metrics["baseline"]["num_parameters"] == 36 * 3 + 3


def test_differences(tmp_path: Path, inputs: dict[str, Artifact], params: Params, settings: Settings) -> None:
    """Student less baseline, and its discordant rows, are those of the arms' own accuracies."""
    metrics = json.loads((run(tmp_path / "out", inputs, params, settings) / "metrics.json").read_text())
    change = metrics["differences"]["student_minus_baseline"]
    difference = metrics["student"]["accuracy"] - metrics["baseline"]["accuracy"]
    assert change["accuracy"]["difference"] == pytest.approx(difference)
    assert change["accuracy"]["low"] <= difference <= change["accuracy"]["high"]
    alone = change["first_only_right"] - change["second_only_right"]
    assert alone == pytest.approx(difference * metrics["holdout"]["num_rows"])
    assert 0 <= change["mcnemar_p_value"] <= 1


def test_tables_for_plots(tmp_path: Path, inputs: dict[str, Artifact], params: Params, settings: Settings) -> None:
    """confusion.csv has a line a test sample, reliability.csv a line an arm and non-empty bin."""
    out = run(tmp_path / "out", inputs, params, settings)
    with (out / "confusion.csv").open() as stream:
        pairs = list(csv.DictReader(stream))
    labels = np.load(out / "labels.npy")
    assert [pair["class"] for pair in pairs] == [SPEC.class_names[label] for label in labels]
    assert {pair["predicted"] for pair in pairs} <= set(SPEC.class_names)
    with (out / "reliability.csv").open() as stream:
        bins = list(csv.DictReader(stream))
    for arm in ("teacher", "baseline", "student"):
        assert sum(int(line["num_rows"]) for line in bins if line["arm"] == arm) == len(labels)


def test_classes_are_listed_in_label_order(
    tmp_path: Path, inputs: dict[str, Artifact], params: Params, settings: Settings
) -> None:
    """Their rows add up to the holdout, and an arm's accuracy is the mean over them."""
    metrics = json.loads((run(tmp_path / "out", inputs, params, settings) / "metrics.json").read_text())
    entries = metrics["per_class"]
    assert tuple(entry["class_name"] for entry in entries) == SPEC.class_names
    total = sum(entry["num_rows"] for entry in entries)
    assert total == metrics["holdout"]["num_rows"]
    assert sum(entry["student"] * entry["num_rows"] for entry in entries) / total == pytest.approx(
        metrics["student"]["accuracy"]
    )


def test_the_same_inputs_give_the_same_bytes(
    tmp_path: Path, inputs: dict[str, Artifact], params: Params, settings: Settings
) -> None:
    """Latencies differ from run to run, so they lie outside the digest."""
    first, second = (run(tmp_path / name, inputs, params, settings) for name in ("first", "second"))
    assert digest_of(first) == digest_of(second)
    latency = json.loads((first / "measured" / "latency.json").read_text())
    assert sorted(latency) == ["baseline", "student", "teacher"]
    assert all(sorted(cells) == ["1", "3"] for cells in latency.values())


def test_what_the_key_reads(params: Params) -> None:
    """Its own section and the workload; neither the objective nor the gate, whose effects come with the inputs."""
    assert set(STEP.reads(params)) == {"evaluate", "workload"}
    assert "components.models.mlp" in STEP.plugins(params)
