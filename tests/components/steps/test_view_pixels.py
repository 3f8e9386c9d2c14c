"""The student sees the pixels that the teacher was asked about, and training stops where it would not."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from components.artifacts.artifact import Artifact
from components.artifacts.store import Store
from components.contracts import NoProgress
from components.data.packing import write_packed
from components.data.splits import Splits
from components.errors import SoftTargetsRefusedError
from components.params import Params
from components.sample_ids import sample_ids
from components.settings import Settings
from components.steps import baseline, fold_teachers, soft_targets, student, teacher
from components.steps.execute import execute
from components.steps.step import Step
from components.views import ViewBank
from components.workloads.image_classification import Params as Workload

TRAIN_ROWS = [*range(4, 16)]
STEPS = [
    {"name": "affine", "shift_pixels": 1, "rotate_degrees": 10},
    {"name": "color_jitter", "contrast": 0.2},
    {"name": "erasing", "fill": "noise"},
    {"name": "mixup"},
]
BASE: dict[str, Any] = {
    "data": {"repository": ".", "path": "data", "format": {"name": "image_folder"}},
    "workload": {"name": "image_classification"},
    "teacher": {"model": {"name": "convnet", "channels": [8]}, "train": {"epochs": 2, "batch_size": 4}},
    "soft_targets": {"batch_size": 5, "rows_per_chunk": 7},
    "student": {
        "model": {"name": "mlp", "hidden": [4]},
        "objective": {"name": "kd"},
        "train": {"epochs": 4, "batch_size": 5},
        "views": {"count": 3, "transforms": STEPS},
    },
    "gate": {"floor": 0.0},
    "registry": {"student": "s", "teacher": "t"},
}
Seen = dict[tuple[int, int], str]


def changed(**student: Any) -> Params:
    return Params.model_validate({**BASE, "student": {**BASE["student"], **student}})


@pytest.fixture
def data(store: Store) -> Artifact:
    """Synthetic pictures, the training split in their midst."""

    def make(out: Path) -> None:
        decoded = Workload().build().tiny(seed=0)
        of = np.repeat(np.array([1, 0, 2], dtype=np.uint8), [4, 12, 8])
        write_packed(out, decoded, sample_ids(decoded.samples), Splits(of, dropped=(), conflicting=()))

    return store.commit("data", "0" * 64, {}, make)


class Runs:
    """Runs steps on one store, and notes the sha256 of every view that anything reads from a bank."""

    def __init__(self, settings: Settings, store: Store, data: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings, self.store, self.data = settings, store, data
        self.seen: Seen = {}
        real, seen = ViewBank.batch, self.seen

        def batch(bank: ViewBank, rows: Tensor, view: int) -> Tensor:
            made = real(bank, rows, view)
            for row, pixels in zip(rows.tolist(), made, strict=True):
                digest = hashlib.sha256(pixels.numpy().tobytes()).hexdigest()
                assert seen.setdefault((row, view), digest) == digest
            return made

        monkeypatch.setattr(ViewBank, "batch", batch)

    def __call__(self, step: Step, params: Params, **inputs: Artifact) -> tuple[Artifact, Seen]:
        """The result, and the views that were read for it."""
        self.seen.clear()
        outcome = execute(
            step,
            params=params,
            settings=self.settings,
            store=self.store,
            inputs={"data": self.data, **self._folds(step, params), **inputs},
            producer="test",
            progress=NoProgress(),
        )
        assert not outcome.cached
        return outcome.artifact, dict(self.seen)

    def _folds(self, step: Step, params: Params) -> dict[str, Artifact]:
        """What soft targets and student are given besides."""
        if "fold_teachers" not in step.inputs:
            return {}
        made = execute(
            fold_teachers.STEP,
            params=params,
            settings=self.settings,
            store=self.store,
            inputs={"data": self.data},
            producer="test",
            progress=NoProgress(),
        )
        return {"fold_teachers": made.artifact}


@pytest.fixture
def runs(settings: Settings, store: Store, data: Artifact, monkeypatch: pytest.MonkeyPatch) -> Runs:
    return Runs(settings, store, data, monkeypatch)


@pytest.mark.parametrize("limit_bytes", [0, 10**9], ids=["on the fly", "prepared"])
def test_the_student_sees_the_pixels_that_the_teacher_was_asked_about(runs: Runs, limit_bytes: int) -> None:
    """View by view and sample by sample, through the steps, with partners and noise."""
    runs.settings = runs.settings.model_copy(update={"view_bank_bytes": limit_bytes})
    params = changed()
    made, _ = runs(teacher.STEP, params)
    targets, asked = runs(soft_targets.STEP, params, teacher=made)
    _, shown = runs(student.STEP, params, teacher=made, soft_targets=targets)

    assert set(asked) == {(row, view) for row in TRAIN_ROWS for view in range(3)}
    assert shown == asked
    assert len(set(asked.values())) == len(asked)
    assert {(each["row"], each["view"]): each["sha256"] for each in targets.read_json("view_pixels.json")}.items() <= (
        asked.items()
    )


def test_hashes_are_of_first_and_last_samples_and_views(runs: Runs) -> None:
    """Eight rows in each of up to four views, with their sample ids."""
    params = changed(views={"count": 9, "transforms": STEPS})
    made, _ = runs(teacher.STEP, params)
    recorded = runs(soft_targets.STEP, params, teacher=made)[0].read_json("view_pixels.json")
    ids = np.load(runs.data.file("sample_ids.npy"))

    assert sorted({each["view"] for each in recorded}) == [0, 3, 5, 8]
    assert len({each["row"] for each in recorded}) == 8
    assert {4, 15} <= {each["row"] for each in recorded}
    assert all(each["sample_id"] == ids[each["row"]].tobytes().hex() for each in recorded)


def forged(targets: Artifact, folder: Path, change: Mapping[str, Any]) -> Artifact:
    """The soft targets with another hash for one view."""
    shutil.copytree(targets.root, folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    recorded = targets.read_json("view_pixels.json")
    recorded[-1] |= change
    (folder / "view_pixels.json").write_text(json.dumps(recorded))
    return replace(targets, root=folder)


def test_other_pixels_are_refused_before_training(runs: Runs, tmp_path: Path) -> None:
    """Sample, id and view are named, and no epoch is trained."""
    params = changed()
    made, _ = runs(teacher.STEP, params)
    targets, _ = runs(soft_targets.STEP, params, teacher=made)
    last = targets.read_json("view_pixels.json")[-1]
    wrong = forged(targets, tmp_path / "forged", {"sha256": "0" * 64})

    with pytest.raises(SoftTargetsRefusedError, match=rf"view 2 of sample 15 \(id {last['sample_id']}\).*000000000000"):
        runs(student.STEP, params, teacher=made, soft_targets=wrong)
    assert len(runs.seen) == len(targets.read_json("view_pixels.json"))


def test_a_study_of_mismatched_views_is_let_through(runs: Runs, tmp_path: Path) -> None:
    """There the teacher was asked about other pixels on purpose."""
    params = changed(allow_mismatched_views=True)
    made, _ = runs(teacher.STEP, params)
    targets, asked = runs(soft_targets.STEP, params, teacher=made)
    wrong = forged(targets, tmp_path / "forged", {"sha256": "0" * 64})

    _, shown = runs(student.STEP, params, teacher=made, soft_targets=wrong)

    assert {view for _, view in asked} == {0}
    assert {view for _, view in shown} == {0, 1, 2}


def test_partners_are_training_samples(runs: Runs) -> None:
    """No pixel of validation or test gets into a view: black training samples among bright ones stay black."""

    def darkened(out: Path) -> None:
        decoded = Workload().build().tiny(seed=0)
        samples = np.array(decoded.samples)
        of = np.repeat(np.array([1, 0, 2], dtype=np.uint8), [4, 12, 8])
        samples[of == 0] = 0
        write_packed(out, replace(decoded, samples=samples), sample_ids(decoded.samples), Splits(of, (), ()))

    runs.data = runs.store.commit("data", "1" * 64, {}, darkened)
    _, shown = runs(baseline.STEP, changed(views={"count": 4, "transforms": [{"name": "mixup"}]}))

    black = hashlib.sha256(bytes(np.load(runs.data.file("samples.npy"))[4].size)).hexdigest()
    assert len(shown) > 12
    assert set(shown.values()) == {black}
