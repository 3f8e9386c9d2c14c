"""The soft-targets step: what is in its key, what it leaves, and when it refuses."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from components.artifacts.artifact import Artifact, write_json
from components.artifacts.store import Store
from components.contracts import DataSpec, NoProgress
from components.errors import SoftTargetsRefusedError
from components.models.mlp import Params as Mlp
from components.params import Params
from components.saved_models import save_model
from components.settings import Settings
from components.soft_targets.reader import SoftTargets
from components.steps import soft_targets
from components.steps.execute import Outcome, execute, key_of
from components.steps.step import World
from components.views import make_views

SPEC = DataSpec((1, 8, 8), ("nought", "one", "two"), (0.5,), (0.3,), 60)
NUM_SAMPLES = 100
BASE: dict[str, Any] = {
    "data": {"repository": ".", "path": "digits", "format": {"name": "parquet"}},
    "workload": {"name": "image_classification"},
    "teacher": {"model": {"name": "mlp", "hidden": [16]}},
    "soft_targets": {"batch_size": 16, "rows_per_chunk": 50},
    "student": {
        "model": {"name": "mlp", "hidden": [4]},
        "objective": {"name": "kd", "temperature": 4},
        "views": {"count": 3, "transforms": [{"name": "affine", "shift_pixels": 1}]},
    },
    "gate": {"floor": 0.5},
    "registry": {"student": "s", "teacher": "t"},
}


def params(**sections: dict[str, Any]) -> Params:
    """BASE, with some fields of some sections changed."""
    return Params.model_validate({name: value | sections.get(name, {}) for name, value in BASE.items()})


def artifact(root: Path, kind: str) -> Artifact:
    content = b"".join(path.read_bytes() for path in sorted(root.iterdir()))
    digest = hashlib.sha256(content).hexdigest()
    return Artifact(kind, digest, digest, root)


@pytest.fixture
def data(tmp_path: Path) -> Artifact:
    """60 training samples, 20 for validation, 20 for test."""
    root = tmp_path / "data"
    root.mkdir()
    samples = np.random.default_rng(0).integers(0, 256, (NUM_SAMPLES, *SPEC.sample_shape), dtype=np.uint8)
    ids = b"".join(hashlib.sha256(sample.tobytes()).digest()[:16] for sample in samples)
    np.save(root / "samples.npy", samples)
    np.save(root / "labels.npy", np.arange(NUM_SAMPLES) % 3)
    np.save(root / "splits.npy", np.repeat([0, 1, 0, 2], [30, 20, 30, 20]).astype(np.uint8))
    np.save(root / "sample_ids.npy", np.frombuffer(ids, dtype=np.uint8).reshape(NUM_SAMPLES, 16))
    described = {"sample_shape": SPEC.sample_shape, "class_names": SPEC.class_names, "num_train": SPEC.num_train}
    write_json(root / "data.json", {**described, "channel_mean": SPEC.channel_mean, "channel_std": SPEC.channel_std})
    return artifact(root, "data")


def teacher_of(root: Path, *, scale: float = 1.0) -> Artifact:
    """An untrained network; *scale* makes its last layer louder."""
    root.mkdir()
    model = Mlp(hidden=(16,))
    torch.manual_seed(0)
    module = model.build(SPEC)
    *_, weight, bias = module.parameters()
    with torch.no_grad():
        weight.mul_(scale)
        bias.mul_(scale)
    save_model(root, module, model, SPEC)
    return artifact(root, "teacher")


@pytest.fixture
def teacher(tmp_path: Path) -> Artifact:
    return teacher_of(tmp_path / "teacher", scale=3.0)


def one_fold(data: Artifact) -> Artifact:
    """What the step before leaves where one teacher speaks about all samples."""
    root = data.root.parent / "fold_teachers"
    root.mkdir(exist_ok=True)
    write_json(root / "folds.json", {"count": 1})
    return artifact(root, "fold_teachers")


def run(chosen: Params, data: Artifact, teacher: Artifact, store: Store, settings: Settings) -> Outcome:
    return execute(
        soft_targets.STEP,
        params=chosen,
        settings=settings,
        store=store,
        inputs={"data": data, "teacher": teacher, "fold_teachers": one_fold(data)},
        producer="test",
        progress=NoProgress(),
    )


def key(chosen: Params, data: Artifact, teacher: Artifact) -> str:
    inputs = {"data": data, "teacher": teacher, "fold_teachers": one_fold(data)}
    resolved = soft_targets.STEP.resolve(World(chosen, Settings(), inputs, cast("Store", None)))
    return key_of(soft_targets.STEP, chosen, inputs, resolved).digest


def test_the_teacher_speaks_about_each_view_of_each_training_sample(
    data: Artifact, teacher: Artifact, store: Store, settings: Settings
) -> None:
    """Row by row, the stored logits are those of the loaded teacher on the replayed view."""
    from components.saved_models import load_model

    chosen = params(soft_targets={"codec": "fp32", "batch_size": 60})
    outcome = run(chosen, data, teacher, store, settings)
    targets, model = SoftTargets.open(outcome.artifact), load_model(teacher)
    samples, ids = np.load(data.file("samples.npy")), np.load(data.file("sample_ids.npy"))

    assert targets.rows.tolist() == [*range(30), *range(50, 80)]
    for view in range(3):
        seen = make_views(torch.from_numpy(samples), ids, view, chosen.student.views)[targets.rows]
        with torch.inference_mode():
            said = model(seen)
        assert torch.allclose(targets.gather(torch.from_numpy(targets.rows), view), said, atol=1e-5)


def test_a_second_run_is_cached(data: Artifact, teacher: Artifact, store: Store, settings: Settings) -> None:
    """The payload is seven files; what making them took lies outside it."""
    first, second = (run(params(), data, teacher, store, settings) for _ in range(2))

    assert (first.cached, second.cached) == (False, True)
    assert first.artifact.digest == second.artifact.digest
    paths = sorted(entry.path for entry in first.artifact.manifest().files)
    assert paths == [
        *("logits.bin", "quality.json", "quality_rows.json", "rows.npy"),
        *("sample_ids.npy", "soft_targets.json", "view_pixels.json"),
    ]
    ledger = first.artifact.measured("ledger.json").read_text()
    assert '"rows_computed": 180' in ledger


def test_the_same_input_gives_the_same_digest(
    data: Artifact, teacher: Artifact, store: Store, settings: Settings, tmp_path: Path
) -> None:
    """Two stores, one digest."""
    elsewhere = settings.model_copy(update={"var_dir": tmp_path / "elsewhere"})

    one = run(params(), data, teacher, store, settings)
    other = run(params(), data, teacher, Store(elsewhere), elsewhere)

    assert one.artifact.digest == other.artifact.digest


@pytest.mark.parametrize(
    ("changed", "another_key"),
    [
        ({"soft_targets": {"batch_size": 17}}, True),
        ({"soft_targets": {"codec": "fp32"}}, True),
        ({"soft_targets": {"precision": "bf16"}}, True),
        ({"student": {"views": {"count": 2, "transforms": [{"name": "affine", "shift_pixels": 1}]}}}, True),
        ({"student": {"views": {"count": 3, "transforms": [{"name": "affine", "shift_pixels": 2}]}}}, True),
        ({"student": {"allow_mismatched_views": True}}, True),
        ({"soft_targets": {"min_entropy_nats": 0.01, "max_entropy_share": 0.5}}, False),
        ({"student": {"objective": {"name": "kd", "temperature": 20, "alpha": 0.1}}}, False),
        ({"student": {"seed": 5}}, False),
        ({"evaluate": {"seed": 5}}, False),
    ],
)
def test_only_what_changes_a_number_is_in_the_key(
    data: Artifact, teacher: Artifact, changed: dict[str, Any], another_key: bool
) -> None:
    """Views and codec are; T, alpha, the student and the bounds of the check are not."""
    chosen = Params.model_validate(
        {name: value | changed.get(name, {}) for name, value in {**BASE, "evaluate": {}}.items()}
    )

    assert (key(chosen, data, teacher) != key(params(), data, teacher)) == another_key


def test_the_code_of_teacher_and_transforms_counts() -> None:
    """The plugin files are named and what they import is reached; no objective and no training loop is."""
    from components.artifacts.code_digest import reached

    assert list(soft_targets.STEP.plugins(params())) == ["components.models.mlp", "components.transforms.affine"]
    modules = reached(["components.steps.soft_targets", *soft_targets.STEP.plugins(params())])
    assert {"components.transforms._resampling", "components.views", "components.soft_targets.codec"} <= set(modules)
    assert not [name for name in modules if "objectives" in name or "components.training" in name]
    assert "components.steps.soft_targets_worker" in modules
    assert not [name for name in modules if "validation" in name or "verdict" in name or "gate" in name]


def test_clean_views_are_stored_for_a_study_of_the_mistake(
    data: Artifact, teacher: Artifact, store: Store, settings: Settings
) -> None:
    """With allow_mismatched_views the teacher speaks about the clean sample alone."""
    outcome = run(params(student={"allow_mismatched_views": True}), data, teacher, store, settings)

    targets = SoftTargets.open(outcome.artifact)

    assert targets.num_views == 1
    assert targets.header.identity.view_spec["transforms"] == []


def test_a_bound_stops_the_run_also_when_the_result_is_cached(
    data: Artifact, teacher: Artifact, store: Store, settings: Settings
) -> None:
    """Tighter bounds refuse the very result that looser ones let through, without asking the teacher again."""
    passed = run(params(), data, teacher, store, settings)
    strict = params(soft_targets={"min_entropy_nats": 2.0})

    with pytest.raises(SoftTargetsRefusedError, match="min_entropy_nats = 2"):
        run(strict, data, teacher, store, settings)
    assert key(strict, data, teacher) == passed.artifact.key


def test_an_untrained_teacher_is_refused(data: Artifact, store: Store, settings: Settings, tmp_path: Path) -> None:
    """Its rows are all but uniform."""
    silent = teacher_of(tmp_path / "silent", scale=0.01)

    with pytest.raises(SoftTargetsRefusedError, match="max_entropy_share"):
        run(params(), data, silent, store, settings)


def test_bf16_is_held_to_the_same_bound(data: Artifact, teacher: Artifact, store: Store, settings: Settings) -> None:
    """The sample is compared with fp32 before the rest is computed, and what was measured is in the header."""
    made = run(params(soft_targets={"precision": "bf16", "max_kl": 1e-2}), data, teacher, store, settings)
    error = made.artifact.read_json("soft_targets.json")["precision_error"]

    assert 0 < error["1"]["mean_kl"] < 1e-2
    with pytest.raises(
        SoftTargetsRefusedError, match=r"precision bf16 is too coarse .* nats at T=1, and max_kl is 1e-12"
    ):
        run(params(soft_targets={"precision": "bf16", "max_kl": 1e-12}), data, teacher, store, settings)


def test_the_step_is_light_to_import() -> None:
    """A cached run needs neither torch nor numpy for it."""
    code = "import sys, components.steps.soft_targets as s; assert not {'torch', 'numpy'} & set(sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_judging_a_cached_result_is_light(data: Artifact, teacher: Artifact, store: Store, settings: Settings) -> None:
    """The verdict is in the store: neither torch nor Great Expectations is imported."""
    made = run(params(), data, teacher, store, settings).artifact
    code = f"""
import sys
from pathlib import Path
from components.artifacts.artifact import Artifact
from components.artifacts.store import Store
from components.params import Params
from components.settings import Settings
from components.steps.soft_targets_gate import judge
from components.steps.step import World
settings = Settings(var_dir=Path({str(settings.var_dir)!r}), store={settings.store!r})
made = Artifact("soft_targets", {made.key!r}, {made.digest!r}, Path({str(made.root)!r}))
judge(made, World(Params.model_validate({params().model_dump(mode="json")!r}), settings, {{}}, Store(settings)))
assert not {{"torch", "great_expectations", "pandas"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


def test_channels_last_is_another_result_of_the_same_teacher(
    data: Artifact, teacher: Artifact, store: Store, settings: Settings, tmp_path: Path
) -> None:
    """Convolutions in another memory format differ in the last bits at most; the header says which it was."""
    from components.models.convnet import Params as ConvNet

    root = tmp_path / "convnet"
    root.mkdir()
    model = ConvNet(channels=(8,))
    torch.manual_seed(0)
    save_model(root, model.build(SPEC), model, SPEC)
    loud = artifact(root, "teacher")
    said = {}
    for name in ("contiguous", "channels_last"):
        chosen = params(soft_targets={"memory_format": name, "codec": "fp32", "max_entropy_share": 1.0})
        targets = SoftTargets.open(run(chosen, data, loud, store, settings).artifact)
        assert targets.header.memory_format == name
        said[name] = targets.gather(torch.from_numpy(targets.rows), 1).clone()

    torch.testing.assert_close(said["channels_last"], said["contiguous"], atol=1e-5, rtol=0)
    assert key(params(soft_targets={"memory_format": "channels_last"}), data, loud) != key(params(), data, loud)
