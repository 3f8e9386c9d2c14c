"""Out-of-fold soft targets: each training sample is spoken about by a teacher that has not seen it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.artifacts.artifact import Artifact
from components.artifacts.inventory import entries
from components.artifacts.store import Store
from components.contracts import UNLABELLED, DecodedSamples, NoProgress
from components.data.folds import NO_FOLD
from components.data.packed import open_packed
from components.data.packing import write_packed
from components.data.splits import Splits
from components.errors import InterruptedRunError, SoftTargetsRefusedError
from components.params import Params
from components.sample_ids import sample_ids
from components.saved_models import load_model
from components.settings import Settings
from components.soft_targets.reader import SoftTargets
from components.steps import baseline, fold_teachers, soft_targets, student, teacher
from components.steps.execute import Outcome, execute
from components.steps.soft_targets_check import check_live
from components.steps.speakers import teacher_of
from components.steps.step import Step
from components.steps.training_rows import students_set
from components.views import ViewBank
from components.workloads.image_classification import Params as Workload

BASE: dict[str, Any] = {
    "data": {"repository": ".", "path": "data", "format": {"name": "image_folder"}},
    "workload": {"name": "image_classification"},
    "teacher": {"model": {"name": "mlp", "hidden": [8]}, "train": {"epochs": 4, "batch_size": 4}, "folds": 3},
    "soft_targets": {"codec": "fp32", "batch_size": 4, "rows_per_chunk": 5},
    "student": {
        "model": {"name": "mlp", "hidden": [4]},
        "objective": {"name": "kd"},
        "train": {"epochs": 2, "batch_size": 4},
        "rows": "both",
        "views": {"count": 2, "transforms": [{"name": "mixup"}]},
    },
    "gate": {"floor": 0.0},
    "registry": {"student": "s", "teacher": "t"},
}
STEPS = (teacher.STEP, fold_teachers.STEP, soft_targets.STEP, baseline.STEP, student.STEP)
UNSEEN = [3, *range(9, 12)]
"""An unlabelled training sample, and the transfer samples."""


def params(**sections: Mapping[str, Any]) -> Params:
    return Params.model_validate({**BASE, **{name: {**BASE[name], **values} for name, values in sections.items()}})


class Runs:
    """Runs steps on one store: 9 training, 3 transfer, 6 validation and 6 test samples."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings, self.store = settings, store
        self.found: dict[str, Artifact] = {"data": store.commit("data", "0" * 64, {}, self._pack)}

    def _pack(self, out: Path) -> None:
        tiny = Workload().build().tiny(seed=0)
        labels = np.where(np.isin(np.arange(24), UNSEEN), UNLABELLED, tiny.labels)
        decoded = DecodedSamples(tiny.samples, labels, tiny.class_names, tiny.sources, {})
        of = np.repeat(np.array([0, 3, 1, 2], dtype=np.uint8), [9, 3, 6, 6])
        write_packed(out, decoded, sample_ids(decoded.samples), Splits(of, dropped=(), conflicting=()))

    def __call__(self, step: Step, chosen: Params, progress: Any = None) -> Outcome:
        outcome = execute(
            step,
            params=chosen,
            settings=self.settings,
            store=self.store,
            inputs=self.found,
            producer="test",
            progress=progress or NoProgress(),
        )
        self.found[step.name] = outcome.artifact
        return outcome

    def all(self, chosen: Params) -> Mapping[str, Outcome]:
        return {step.name: self(step, chosen) for step in STEPS}


@pytest.fixture
def runs(settings: Settings, store: Store) -> Runs:
    return Runs(settings, store)


def test_each_row_is_its_own_teachers(runs: Runs) -> None:
    """Mixed views included, whose two samples are of one fold; the teacher of all speaks about what it has not seen."""
    made = runs.all(params())
    folds = np.load(made["fold_teachers"].artifact.file("folds.npy"))
    targets, data = SoftTargets.open(made["soft_targets"].artifact), open_packed(runs.found["data"])
    taught = students_set(runs.found["data"], params())
    bank = ViewBank(
        torch.from_numpy(data.samples[taught.rows]), np.array(data.sample_ids), params().student.views,
        limit_bytes=0, rows=taught.rows, groups=folds[taught.rows],
    )  # fmt: skip
    models = {fold: load_model(teacher_of(made["fold_teachers"].artifact, fold)) for fold in range(3)}
    models[NO_FOLD] = load_model(made["teacher"].artifact)

    assert np.flatnonzero(folds == NO_FOLD).tolist() == [3, *range(9, 24)]
    for view in range(2):
        mixture = bank.mixture(torch.from_numpy(taught.rows), view)
        assert mixture is None or (folds[mixture.partners.numpy()] == folds[taught.rows]).all()
        for row in taught.rows.tolist():
            with torch.inference_mode():
                said = models[folds[row]](bank.batch(torch.tensor([row]), view))
            torch.testing.assert_close(targets.gather(torch.tensor([row]), view), said, atol=1e-5, rtol=1e-5)


def test_a_teacher_of_a_fold_has_not_seen_it(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it is trained on: the rows of the other folds, and none of its own as a partner."""
    from components.steps import fitting

    seen, fit = [], fitting.fit

    def noted(ctx: Any, **given: Any) -> None:
        seen.append(set(given["taught"].rows.tolist()))
        fit(ctx, **given)

    monkeypatch.setattr(fitting, "fit", noted)
    folds = np.load(runs(fold_teachers.STEP, params()).artifact.file("folds.npy"))

    assert seen == [set(range(9)) - set(np.flatnonzero(folds == fold)) for fold in range(3)]


def test_out_of_fold_metrics_are_of_all_labelled_training_samples(runs: Runs) -> None:
    found = runs(fold_teachers.STEP, params()).artifact.read_json("metrics.json")["out_of_fold"]

    assert set(found) == {"accuracy", "nll", "ece"}
    assert found["accuracy"] * 8 == pytest.approx(round(found["accuracy"] * 8))


def test_another_number_of_folds_is_another_set(runs: Runs) -> None:
    """The same number is found; the teacher of all does not depend on it."""
    first = runs.all(params())
    assert all(outcome.cached for outcome in runs.all(params()).values())

    other = runs.all(params(teacher={"folds": 2}))
    assert {name for name, outcome in other.items() if outcome.cached} == {"teacher"}

    plain = runs.all(params(teacher={"folds": 1}))
    assert plain["soft_targets"].artifact.digest != first["soft_targets"].artifact.digest
    assert not plain["fold_teachers"].artifact.file("folds.npy").exists()


def test_folds_change_no_control_unless_views_mix(runs: Runs) -> None:
    """Partners are drawn within the fold, for the control as for the student."""
    clean = {"views": {"count": 2, "transforms": [{"name": "affine", "shift_pixels": 1}]}}
    runs.all(params(student=clean))
    assert runs(baseline.STEP, params(student=clean, teacher={"folds": 1})).cached
    runs.all(params())
    assert not runs(baseline.STEP, params(teacher={"folds": 1})).cached


def test_soft_targets_of_other_folds_are_refused(runs: Runs) -> None:
    runs.all(params())
    mine = runs.found["soft_targets"]
    runs(fold_teachers.STEP, params(teacher={"folds": 2}))
    runs.found["soft_targets"] = mine

    with pytest.raises(SoftTargetsRefusedError, match="fold_teachers_digest is"):
        runs(student.STEP, params(teacher={"folds": 2}))


def test_the_rows_own_teachers_are_asked_again(runs: Runs, store: Store) -> None:
    """By `verify --live`, and by the figures that the gate of soft targets judges."""
    made = runs.all(params())
    (entry,) = entries(store, ("soft_targets",))
    everything = entries(store, ("data", "teacher", "fold_teachers"))
    found = check_live(store, everything, entry, num_rows=1000, seed=0, progress=NoProgress())

    assert (found.num_rows, found.num_identical) == (24, 24)
    assert made["soft_targets"].artifact.read_json("quality.json")["live"]["largest_logit_difference"] == 0


def test_processes_ask_each_rows_own_teacher(runs: Runs) -> None:
    made = runs.all(params())
    there = runs.settings.model_copy(update={"generation_processes": 2, "store": str(runs.settings.var_dir / "other")})
    again = Runs(there, Store(there))
    again.found = {name: runs.found[name] for name in ("data", "teacher", "fold_teachers")}
    told = again(soft_targets.STEP, params())

    assert not told.cached
    assert told.artifact.digest == made["soft_targets"].artifact.digest


def test_a_kill_keeps_the_teachers_that_are_finished(runs: Runs, settings: Settings, tmp_path: Path) -> None:
    """The digest is that of an undisturbed run."""
    expected = runs(fold_teachers.STEP, params()).artifact.digest
    elsewhere = settings.model_copy(update={"store": str(tmp_path / "other")})
    disturbed = Runs(elsewhere, Store(elsewhere))

    class Told(NoProgress):
        def __init__(self, stop_at: str) -> None:
            self.titles: list[str] = []
            self.stop_at = stop_at

        def start(self, title: str, *, total: int) -> None:
            self.titles.append(title)

        def check(self) -> None:
            if self.titles and self.titles[-1] == self.stop_at:
                raise InterruptedRunError("stopped")

    going_on = Told(stop_at="")
    with pytest.raises(InterruptedRunError):
        disturbed(fold_teachers.STEP, params(), Told(stop_at="teacher without fold 2 of 3"))
    assert disturbed(fold_teachers.STEP, params(), going_on).artifact.digest == expected
    assert going_on.titles == ["teacher without fold 2 of 3", "teacher without fold 3 of 3"]


def test_headers_from_before_there_were_folds_are_read(runs: Runs, tmp_path: Path) -> None:
    """They are of one teacher."""
    from components.soft_targets.header import read_header

    made = runs.all(params(teacher={"folds": 1}))
    header = json.loads(made["soft_targets"].artifact.file("soft_targets.json").read_text())
    del header["identity"]["fold_teachers_digest"]
    (tmp_path / "soft_targets.json").write_text(json.dumps(header))

    assert read_header(tmp_path).identity == read_header(made["soft_targets"].artifact.root).identity


def test_features_are_of_one_live_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which would have seen the samples."""
    from components.objectives import kd

    monkeypatch.setattr(kd.Params, "needs", frozenset({"features"}))
    with pytest.raises(ValueError, match="needs the features of one live teacher, and teacher.folds is 3"):
        params()
