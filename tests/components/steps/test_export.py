"""The export step on a real student artifact that was never trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from components import saved_models
from components.artifacts.artifact import Artifact, sha256_of, write_json
from components.contracts import DataSpec, NoProgress
from components.errors import ExportError
from components.export.torch_export import load
from components.params import Params
from components.programs import largest_difference
from components.saved_models import load_model, save_model
from components.settings import Settings
from components.steps.execute import key_of
from components.steps.export import STEP
from components.steps.step import Resolved, StepContext

PARAMS = {
    "data": {"repository": ".", "path": "data", "format": {"name": "image_folder"}},
    "workload": {"name": "image_classification"},
    "teacher": {"model": {"name": "mlp", "hidden": [16]}},
    "student": {"model": {"name": "convnet", "channels": [4, 6]}, "objective": {"name": "kd"}},
    "gate": {"floor": 0.1},
    "registry": {"student": "s", "teacher": "t"},
}
SPEC = DataSpec((1, 12, 12), ("circle", "cross", "dot"), (0.5,), (0.3,), 20)
ROWS = 30


@pytest.fixture
def params() -> Params:
    return Params.model_validate(PARAMS)


@pytest.fixture
def inputs(tmp_path: Path, params: Params) -> dict[str, Artifact]:
    """A data artifact with fewer training samples than the largest parity batch, and a student."""
    found = {name: Artifact(name, name, name, tmp_path / name) for name in STEP.inputs}
    for artifact in found.values():
        artifact.root.mkdir()
    root, draw = found["data"].root, np.random.default_rng(0)
    np.save(root / "samples.npy", draw.integers(0, 256, (ROWS, *SPEC.sample_shape), dtype=np.uint8))
    np.save(root / "labels.npy", np.arange(ROWS) % 3)
    np.save(root / "splits.npy", (np.arange(ROWS) % 3).astype(np.uint8))
    np.save(root / "sample_ids.npy", draw.integers(0, 256, (ROWS, 16), dtype=np.uint8))
    spec = {"class_names": SPEC.class_names, "sample_shape": SPEC.sample_shape, "num_train": SPEC.num_train}
    write_json(root / "data.json", {**spec, "channel_mean": SPEC.channel_mean, "channel_std": SPEC.channel_std})
    torch.manual_seed(0)
    save_model(found["student"].root, params.student.model.build(SPEC), params.student.model, SPEC)
    return found


def run(out: Path, inputs: dict[str, Artifact], params: Params, settings: Settings) -> Path:
    out.mkdir()
    STEP.run(StepContext(params, settings, inputs, Resolved(), out, out, NoProgress()))
    return out


def test_payload(tmp_path, inputs, params, settings):
    """The archive predicts like the student, and parity.json says how closely and for which batches."""
    out = run(tmp_path / "out", inputs, params, settings)
    assert sorted(path.name for path in out.iterdir()) == ["parity.json", "student.pt2"]
    parity = json.loads((out / "parity.json").read_text())
    assert parity["batch_sizes"] == [1, 2, 7, 64]
    assert 0 <= parity["max_abs_diff"] <= 1e-6
    samples = np.load(inputs["data"].file("samples.npy"))
    assert largest_difference(load_model(inputs["student"]), load(out / "student.pt2"), samples, (1, 30)) <= 1e-6


def test_the_same_student_is_the_same_bytes(tmp_path, inputs, params, settings):
    """Two runs of the step write equal files."""
    first, second = (run(tmp_path / name, inputs, params, settings) for name in ("one", "two"))
    for path in first.iterdir():
        assert sha256_of(path) == sha256_of(second / path.name)


def test_an_export_that_says_something_else_is_refused(tmp_path, inputs, params, settings, monkeypatch):
    """A student whose live answers drift from its export ends the step with an error."""

    class Drifting(torch.nn.Module):
        calls = 0

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            Drifting.calls += 1
            return rows.float().mean((1, 2, 3))[:, None] * torch.ones(3) + self.calls

    monkeypatch.setattr(saved_models, "load_model", lambda _: Drifting())
    with pytest.raises(ExportError, match=r"student\.pt2\) differs from the live model"):
        run(tmp_path / "out", inputs, params, settings)


def test_its_key_is_free_of_what_it_does_not_read(inputs, params):
    """No parameter of params.yaml and no code of training is in the key; the exporter and the model's code are."""
    changed = params.model_copy(update={"gate": params.gate.model_copy(update={"floor": 0.5})})
    key = key_of(STEP, params, inputs, Resolved())
    assert key == key_of(STEP, changed, inputs, Resolved())
    code = set(key.fields["code"])
    assert {"components.export.torch_export", "components.programs", "components.models.convnet"} <= code
    assert not [
        name for name in code if name.startswith(("components.training", "components.objectives", "components.gate"))
    ]
