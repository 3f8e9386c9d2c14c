"""The teacher, asked again, says what is stored; other rows, and a teacher that is gone, are noticed."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.artifacts.artifact import Artifact, write_json
from components.artifacts.inventory import Entry, entries
from components.artifacts.key import make_key
from components.artifacts.store import Store
from components.contracts import DataSpec, NoProgress
from components.errors import ArtifactDamagedError, StoreError
from components.models.mlp import Params as Mlp
from components.params import Params
from components.saved_models import save_model
from components.soft_targets.codec import codec_named, decode
from components.soft_targets.header import LOGITS, read_header
from components.steps import soft_targets
from components.steps.execute import execute
from components.steps.soft_targets_check import changed_code, check_live

SPEC = DataSpec((1, 8, 8), ("nought", "one", "two"), (0.5,), (0.3,), 60)
NUM_SAMPLES, NUM_VIEWS = 80, 3


def params(codec: str) -> Params:
    return Params.model_validate(
        {
            "data": {"repository": ".", "path": "digits", "format": {"name": "parquet"}},
            "workload": {"name": "image_classification"},
            "teacher": {"model": {"name": "mlp", "hidden": [16]}},
            "soft_targets": {"batch_size": 16, "rows_per_chunk": 50, "codec": codec, "max_kl": 0.1},
            "student": {
                "model": {"name": "mlp", "hidden": [4]},
                "objective": {"name": "kd", "temperature": 4},
                "views": {"count": NUM_VIEWS, "transforms": [{"name": "affine", "shift_pixels": 1}]},
            },
            "gate": {"floor": 0.5},
            "registry": {"student": "s", "teacher": "t"},
        }
    )


def write_data(out: Path) -> None:
    """60 training samples."""
    samples = np.random.default_rng(0).integers(0, 256, (NUM_SAMPLES, *SPEC.sample_shape), dtype=np.uint8)
    ids = b"".join(hashlib.sha256(sample.tobytes()).digest()[:16] for sample in samples)
    np.save(out / "samples.npy", samples)
    np.save(out / "labels.npy", np.arange(NUM_SAMPLES) % 3)
    np.save(out / "splits.npy", np.repeat([0, 1, 0, 2], [30, 10, 30, 10]).astype(np.uint8))
    np.save(out / "sample_ids.npy", np.frombuffer(ids, dtype=np.uint8).reshape(NUM_SAMPLES, 16))
    described = {"sample_shape": SPEC.sample_shape, "class_names": SPEC.class_names, "num_train": SPEC.num_train}
    write_json(out / "data.json", {**described, "channel_mean": SPEC.channel_mean, "channel_std": SPEC.channel_std})


def write_teacher(out: Path) -> None:
    """An untrained network with a loud last layer."""
    torch.manual_seed(0)
    module = Mlp(hidden=(16,)).build(SPEC)
    *_, weight, _ = module.parameters()
    with torch.no_grad():
        weight.mul_(3)
    save_model(out, module, Mlp(hidden=(16,)), SPEC)


def write_one_fold(out: Path) -> None:
    write_json(out / "folds.json", {"count": 1})


def stored(store: Store, kind: str, write: Callable[[Path], None]) -> Artifact:
    def make(out: Path, work: Path) -> dict[str, Any]:
        write(out)
        return {}

    return store.obtain(make_key(kind, {}), make, producer="test", progress=NoProgress()).artifact


@pytest.fixture(params=["fp32", "fp16", "int8", "int4"])
def targets(request: pytest.FixtureRequest, store: Store) -> Artifact:
    written = {"data": write_data, "teacher": write_teacher, "fold_teachers": write_one_fold}
    inputs = {kind: stored(store, kind, write) for kind, write in written.items()}
    return execute(
        soft_targets.STEP,
        params=params(request.param),
        settings=store.settings,
        store=store,
        inputs=inputs,
        producer="test",
        progress=NoProgress(),
    ).artifact


def ask_again(store: Store, num_rows: int, seed: int = 0, *, max_kl: float | None = None) -> Any:
    """*max_kl* in the place of that in the manifest."""
    (entry,) = entries(store, ("soft_targets",))
    if max_kl is not None:
        assert entry.manifest is not None
        fields = json.loads(json.dumps(entry.manifest.fields))
        fields["params"]["soft_targets"]["max_kl"] = max_kl
        entry = dataclasses.replace(entry, manifest=dataclasses.replace(entry.manifest, fields=fields))
    found = entries(store, ("data", "teacher", "fold_teachers"))
    return check_live(store, found, entry, num_rows=num_rows, seed=seed, progress=NoProgress())


def republish(store: Store, targets: Artifact, change: Callable[[np.ndarray], None]) -> None:
    """The same soft targets with other rows, under hashes that fit them: as a wrong teacher would have left them."""
    manifest = targets.manifest()
    targets.root.rename(targets.root.parent / ".old")
    old = targets.root.parent / ".old"

    def write(out: Path, work: Path) -> dict[str, Any]:
        for path in old.iterdir():
            if path.is_file() and path.name != "manifest.json":
                (out / path.name).write_bytes(path.read_bytes())
        header = json.loads((out / "soft_targets.json").read_text())
        rows = np.fromfile(out / LOGITS, dtype=np.uint8).reshape(-1, header["row_stride_bytes"])
        change(rows)
        rows.tofile(out / LOGITS)
        return {}

    key = make_key("soft_targets", {**manifest.fields, "changed": True})
    store.obtain(key, write, producer="test", progress=NoProgress())


def test_the_teacher_says_what_is_stored(targets: Artifact, store: Store) -> None:
    """Every row of every codec, to the very bytes, since the same machine is asked."""
    result = ask_again(store, 10_000)

    assert (result.num_rows, result.num_identical, result.wrong) == (60 * NUM_VIEWS, 60 * NUM_VIEWS, ())
    codec = read_header(targets.root).codec
    assert (result.largest_logit_difference == 0) == (codec == "fp32")


def test_as_many_rows_as_asked_are_looked_at_and_the_seed_names_them(targets: Artifact, store: Store) -> None:
    first, again, other = (ask_again(store, 20, seed) for seed in (1, 1, 2))

    assert first.num_rows == 20
    assert first == again
    assert read_header(targets.root).codec == "fp32" or first.mean_kl != other.mean_kl


def test_rows_of_another_sample_are_noticed(targets: Artifact, store: Store) -> None:
    """Whole files, right hashes, wrong rows: only the teacher can tell."""

    def swap(rows: np.ndarray) -> None:
        rows[[3, 100]] = rows[[100, 3]]

    header = read_header(targets.root)
    content = np.fromfile(targets.file(LOGITS), dtype=np.uint8).reshape(-1, header.row_stride_bytes)[[3, 100]]
    first, second = decode(codec_named(header.codec), content, header.num_classes)
    assert np.abs(first - second).max() > 0.1
    republish(store, targets, swap)

    assert [name.split()[-1] for name in ask_again(store, 10_000).wrong] == ["0", "1"]


@pytest.mark.parametrize("targets", ["int4"], indirect=True)
def test_a_mean_beyond_the_bound_is_told_from_chance(targets: Artifact, store: Store) -> None:
    """The bound is the manifest's own; of few rows nothing is said."""
    mean = ask_again(store, 10_000).mean_kl
    results = [ask_again(store, 60, max_kl=mean * share) for share in (0.98, 0.2)]

    assert [(each.wrong, each.beyond_bound, each.ok) for each in results] == [((), False, True), ((), True, False)]
    assert results[0].mean_kl > 0.98 * mean
    assert 0 < results[0].standard_error < results[0].mean_kl
    assert ask_again(store, 20, max_kl=mean / 10).largest_mean_kl is None


@pytest.mark.parametrize("targets", ["fp16"], indirect=True)
def test_a_teacher_that_is_gone_is_said(targets: Artifact, store: Store) -> None:
    """With the way to get it back."""
    (entry,) = entries(store, ("soft_targets",))
    found: list[Entry] = entries(store, ("data", "fold_teachers"))
    with pytest.raises(StoreError, match="the teacher .* is not in .* a run with the parameters"):
        check_live(store, found, entry, num_rows=4, seed=0, progress=NoProgress())


@pytest.mark.parametrize("targets", ["fp16"], indirect=True)
def test_a_damaged_teacher_is_not_asked(targets: Artifact, store: Store) -> None:
    """Nor is it moved: looking changes nothing."""
    weights = store.storage.root / "teacher" / make_key("teacher", {}).digest / "weights.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1])

    with pytest.raises(ArtifactDamagedError, match="teacher .* is damaged: weights.safetensors"):
        ask_again(store, 4)
    assert weights.exists()


@pytest.mark.parametrize("targets", ["fp16"], indirect=True)
def test_code_that_changed_since_is_named(targets: Artifact, store: Store) -> None:
    """A module with other code, and one that is no more; nothing where all is as it was."""
    (entry,) = entries(store, ("soft_targets",))
    assert changed_code(entry) == ()
    assert entry.manifest is not None
    code = {**entry.manifest.fields["code"], "components.views": "0" * 64, "components.gone": "0" * 64}
    manifest = dataclasses.replace(entry.manifest, fields={**entry.manifest.fields, "code": code})

    assert set(changed_code(dataclasses.replace(entry, manifest=manifest))) == {"components.views", "components.gone"}
