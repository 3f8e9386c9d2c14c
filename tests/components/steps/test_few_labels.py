"""The steps where the student sees few labels, or samples that its teacher has never seen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.artifacts.artifact import Artifact
from components.artifacts.store import Store
from components.contracts import UNLABELLED, DecodedSamples, NoProgress
from components.data.packing import write_packed
from components.data.splits import Splits
from components.errors import ParamsError, SplitError
from components.params import Params, load_params
from components.sample_ids import sample_ids
from components.settings import Settings
from components.soft_targets.reader import SoftTargets
from components.steps import baseline, fold_teachers, soft_targets, student, teacher
from components.steps.execute import Outcome, execute
from components.steps.step import Step
from components.workloads.image_classification import Params as Workload

BASE: dict[str, Any] = {
    "data": {"repository": ".", "path": "data", "format": {"name": "image_folder"}},
    "workload": {"name": "image_classification"},
    "teacher": {"model": {"name": "mlp", "hidden": [8]}, "train": {"epochs": 6, "batch_size": 4}},
    "student": {
        "model": {"name": "mlp", "hidden": [4]},
        "objective": {"name": "kd"},
        "train": {"epochs": 2, "batch_size": 4},
        "views": {"count": 2, "transforms": [{"name": "mixup"}]},
    },
    "gate": {"floor": 0.0},
    "registry": {"student": "s", "teacher": "t"},
}
TRAIN, TRANSFER = [*range(8)], [*range(8, 12)]


def params(**chosen: Any) -> Params:
    return Params.model_validate({**BASE, "student": {**BASE["student"], **chosen}})


class Runs:
    """Runs steps on one store: 8 training, 4 transfer, 6 validation and 6 test samples."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings, self.store = settings, store
        self.found: dict[str, Artifact] = {"data": store.commit("data", "0" * 64, {}, self._pack)}

    def _pack(self, out: Path) -> None:
        tiny = Workload().build().tiny(seed=0)
        labels = np.where(np.isin(np.arange(24), TRANSFER), UNLABELLED, tiny.labels)
        decoded = DecodedSamples(tiny.samples, labels, tiny.class_names, tiny.sources, {})
        of = np.repeat(np.array([0, 3, 1, 2], dtype=np.uint8), [8, 4, 6, 6])
        write_packed(out, decoded, sample_ids(decoded.samples), Splits(of, dropped=(), conflicting=()))

    def __call__(self, step: Step, chosen: Params) -> Outcome:
        outcome = execute(
            step,
            params=chosen,
            settings=self.settings,
            store=self.store,
            inputs=self.found,
            producer="test",
            progress=NoProgress(),
        )
        self.found[step.name] = outcome.artifact
        return outcome

    def all(self, chosen: Params) -> Mapping[str, Outcome]:
        steps = (teacher.STEP, fold_teachers.STEP, soft_targets.STEP, baseline.STEP, student.STEP)
        return {step.name: self(step, chosen) for step in steps}


@pytest.fixture
def runs(settings: Settings, store: Store) -> Runs:
    return Runs(settings, store)


def test_the_teacher_speaks_about_samples_that_it_never_saw(runs: Runs) -> None:
    """Student and control see four labels; the student learns from the transfer samples too, mixed ones included."""
    chosen = params(labels={"by": "count", "count": 4})
    made = runs.all(chosen)
    rows = SoftTargets.open(made["soft_targets"].artifact).rows.tolist()

    assert rows[4:] == TRANSFER
    assert set(rows[:4]) < set(TRAIN)
    control = made["baseline"].artifact.read_json("history.json")
    assert {record["loss_distillation"] for record in control} == {0.0}
    assert all(record["loss_distillation"] > 0 for record in made["student"].artifact.read_json("history.json"))


def test_the_number_of_labels_does_not_ask_the_teacher_again(runs: Runs) -> None:
    """As long as the rows are the same; both students are other ones."""
    first = runs.all(params(rows="both", labels={"by": "count", "count": 4}))
    second = runs.all(params(rows="both", labels={"by": "count", "count": 5}))

    assert {name: outcome.cached for name, outcome in second.items()} == {
        "teacher": True, "fold_teachers": True, "soft_targets": True, "baseline": False, "student": False,
    }  # fmt: skip
    assert first["soft_targets"].artifact.key == second["soft_targets"].artifact.key


def test_the_teacher_does_not_depend_on_what_the_student_sees(runs: Runs) -> None:
    """And labels that are asked for in another way are the same student."""
    runs.all(params(rows="train"))
    again = runs.all(params(rows="train", labels={"by": "count", "count": len(TRAIN)}))

    assert all(outcome.cached for outcome in again.values())


def test_a_control_without_a_label_of_its_own_learns_from_the_training_split(runs: Runs) -> None:
    """The transfer samples have no labels here."""
    made = runs.all(params(rows="transfer"))

    assert SoftTargets.open(made["soft_targets"].artifact).rows.tolist() == TRANSFER
    assert all(record["loss_hard"] == 0 for record in made["student"].artifact.read_json("history.json"))
    assert all(record["loss_hard"] > 0 for record in made["baseline"].artifact.read_json("history.json"))


def test_a_file_of_labels_counts_by_its_content(runs: Runs, tmp_path: Path) -> None:
    """A moved file is the same student; other samples in it are another."""
    file, moved = tmp_path / "labels.npz", tmp_path / "moved.npz"
    np.savez(file, labelled=[0, 1, 2])
    np.savez(moved, labelled=[0, 1, 2])

    def labelled_by(path: Path) -> Params:
        return params(labels={"by": "index", "file": str(path)})

    runs.all(labelled_by(file))
    assert runs(student.STEP, labelled_by(moved)).cached
    np.savez(moved, labelled=[0, 1, 5])
    assert not runs(baseline.STEP, labelled_by(moved)).cached
    with pytest.raises(SplitError, match=r"student.labels.file .*gone.npz does not exist \(looked from"):
        runs(student.STEP, labelled_by(tmp_path / "gone.npz"))


def test_a_file_that_changes_under_way_is_noticed(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key was made of what lay there before."""
    file = tmp_path / "labels.npz"
    np.savez(file, labelled=[0, 1, 2])
    chosen = params(labels={"by": "index", "file": str(file)})
    runs.all(chosen)
    np.savez(file, labelled=[0, 1, 3])
    resolve = student.STEP.resolve

    def then_change(world: Any) -> Any:
        found = resolve(world)
        np.savez(file, labelled=[0, 1, 4])
        return found

    from dataclasses import replace

    with pytest.raises(SplitError, match="student.labels.file changed while it was about to be read"):
        runs(replace(student.STEP, resolve=then_change), chosen)


def test_labels_by_index_need_a_file(tmp_path: Path) -> None:
    """The index file of the split, or one of their own."""
    import yaml

    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump({**BASE, "student": {**BASE["student"], "labels": {"by": "index"}}}))
    with pytest.raises(ParamsError, match="student.labels names no file, and data.split has none either"):
        load_params(file)
