"""Facts about the steps that train: teacher, hard-label student, distilled student."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from components.artifacts.artifact import Artifact
from components.artifacts.code_digest import reached
from components.artifacts.store import Store
from components.contracts import NoProgress
from components.data.packing import write_packed
from components.data.splits import Splits
from components.errors import (
    ServerError,
    SoftTargetsRefusedError,
    TeacherRefusedError,
    TrainingDivergedError,
    WeightsError,
)
from components.params import Params
from components.sample_ids import sample_ids
from components.saved_models import load_model
from components.settings import Settings
from components.steps import baseline, fold_teachers, student, teacher
from components.steps.execute import Outcome, execute, key_of
from components.steps.pipeline import load_step
from components.steps.step import Resolved, Step
from components.workloads.image_classification import Params as Workload

SHIFTS = {"count": 2, "transforms": [{"name": "affine", "shift_pixels": 1}]}
BASE: dict[str, Any] = {
    "data": {"repository": ".", "path": "data", "format": {"name": "image_folder"}},
    "workload": {"name": "image_classification"},
    "teacher": {
        "model": {"name": "convnet", "channels": [8]},
        "train": {"epochs": 6, "batch_size": 4, "optimizer": {"learning_rate": 0.05}},
    },
    "student": {
        "model": {"name": "mlp", "hidden": [4]},
        "objective": {"name": "kd"},
        "train": {"epochs": 4, "batch_size": 4},
    },
    "gate": {"floor": 0.0},
    "registry": {"student": "s", "teacher": "t"},
}


def changed(**sections: Mapping[str, Any]) -> Params:
    return Params.model_validate({**BASE, **{name: {**BASE[name], **values} for name, values in sections.items()}})


PLAIN = changed()


@pytest.fixture
def data(store: Store) -> Artifact:
    """Synthetic pictures, packed."""

    def make(out: Path) -> None:
        decoded = Workload().build().tiny(seed=0)
        of = np.repeat(np.array([0, 1, 2], dtype=np.uint8), [12, 6, 6])
        write_packed(out, decoded, sample_ids(decoded.samples), Splits(of, dropped=(), conflicting=()))

    return store.commit("data", "0" * 64, {}, make)


class Runs:
    """Runs steps on one store."""

    def __init__(self, settings: Settings, store: Store, data: Artifact) -> None:
        self.settings, self.store, self.data = settings, store, data

    def __call__(self, step: Step, params: Params = PLAIN, **inputs: Artifact) -> Outcome:
        return execute(
            step,
            params=params,
            settings=self.settings,
            store=self.store,
            inputs={"data": self.data, **self._folds(step, params), **inputs},
            producer="test",
            progress=NoProgress(),
        )

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

    def taught(self, params: Params = PLAIN) -> tuple[Outcome, Outcome]:
        """Soft targets and the student that learnt from them."""
        made = self(teacher.STEP, params).artifact
        targets = self(load_step("soft_targets"), params, teacher=made)
        return targets, self(student.STEP, params, teacher=made, soft_targets=targets.artifact)


@pytest.fixture
def runs(settings: Settings, store: Store, data: Artifact) -> Runs:
    return Runs(settings, store, data)


def test_a_teacher_is_a_model_with_its_history(runs: Runs) -> None:
    """Weights, description, validation metrics and a record an epoch; the model loads and says one row a sample."""
    made = runs(teacher.STEP).artifact

    assert set(made.read_json("metrics.json")) == {"accuracy", "nll", "ece", "loss"}
    assert [record["epoch"] for record in made.read_json("history.json")] == [1, 2, 3, 4, 5, 6]
    assert load_model(made)(torch.zeros(3, 1, 8, 8, dtype=torch.uint8)).shape == (3, 3)


def test_metrics_are_those_of_the_weights_that_were_kept(runs: Runs) -> None:
    """Without early stopping the artifact's metrics are the last epoch's."""
    made = runs(teacher.STEP).artifact
    last = made.read_json("history.json")[-1]

    assert made.read_json("metrics.json")["accuracy"] == last["validation_accuracy"]


@pytest.mark.parametrize("views", [{}, SHIFTS], ids=["clean", "shifted"])
def test_a_student_learns_from_stored_soft_targets(runs: Runs, views: Mapping[str, Any]) -> None:
    """Teacher, soft targets and student fit together, with and without augmentation."""
    _, made = runs.taught(changed(student={"views": views}))
    history = made.artifact.read_json("history.json")

    assert len(history) == 4
    assert all(record["loss_distillation"] > 0 and record["loss_hard"] > 0 for record in history)


def test_alpha_zero_and_baseline_are_one_student(runs: Runs) -> None:
    """The control differs from the student in its loss alone: with alpha 0 they are the same bits."""
    _, made = runs.taught(changed(student={"objective": {"name": "kd", "alpha": 0.0}}))
    control = runs(baseline.STEP)
    name = "weights.safetensors"

    assert made.artifact.file(name).read_bytes() == control.artifact.file(name).read_bytes()
    assert {record["loss_distillation"] for record in control.artifact.read_json("history.json")} == {0.0}


def test_same_seed_same_digest(runs: Runs, tmp_path: Path) -> None:
    """An empty store ends in the same digest, since nothing in the payload knows clock or place."""
    first = runs(teacher.STEP).artifact
    elsewhere = runs.settings.model_copy(update={"store": str(tmp_path / "other")})
    again = Runs(elsewhere, Store(elsewhere), runs.data)(teacher.STEP)

    assert not again.cached
    assert again.artifact.digest == first.digest


def test_floor_is_asked_again_of_a_cached_teacher(runs: Runs) -> None:
    """Raising the floor trains nothing, and refuses with the numbers."""
    trained = runs(teacher.STEP, changed(teacher={"train": {"epochs": 1, "optimizer": {"learning_rate": 1e-6}}}))
    high = changed(teacher={"train": {"epochs": 1, "optimizer": {"learning_rate": 1e-6}}, "floor": {"accuracy": 1.0}})
    accuracy = trained.artifact.read_json("metrics.json")["accuracy"]

    assert accuracy < 1
    with pytest.raises(TeacherRefusedError, match=rf"accuracy is {accuracy:.4f} and .*floor.accuracy asks for 1"):
        runs(teacher.STEP, high)


@pytest.mark.parametrize("bound", [0.5, 2.0])
def test_a_floor_is_kept_in_its_metrics_own_direction(runs: Runs, bound: float) -> None:
    """An NLL of about ln 3, which less is better of, reaches 2 and misses 0.5."""
    untrained = {"train": {"epochs": 1, "optimizer": {"learning_rate": 1e-6}}, "floor": {"accuracy": 0, "nll": bound}}
    if bound == 2.0:
        assert runs(teacher.STEP, changed(teacher=untrained)).artifact.read_json("metrics.json")["nll"] < bound
        return
    with pytest.raises(TeacherRefusedError, match=r"^the teacher's validation nll is .*floor.nll asks for 0.5"):
        runs(teacher.STEP, changed(teacher=untrained))


# Keys


def key(step: Step, params: Params, data: Artifact, **inputs: Artifact) -> str:
    return key_of(step, params, {"data": data, **inputs}, Resolved()).digest


def test_what_a_teacher_does_not_read_does_not_retrain_it(data: Artifact) -> None:
    """Floor, student and the pace of checkpoints are in no teacher's key; its own choices are."""
    expected = key(teacher.STEP, PLAIN, data)
    same = [
        changed(teacher={"floor": {"accuracy": 0.5}}),
        changed(teacher={"train": {**BASE["teacher"]["train"], "checkpoint_seconds": 1}}),
        changed(student={"seed": 5, "views": SHIFTS}),
    ]
    other = [
        changed(teacher={"seed": 1}),
        changed(teacher={"views": SHIFTS}),
        changed(teacher={"model": {"name": "convnet", "channels": [9]}}),
        changed(teacher={"train": {**BASE["teacher"]["train"], "epochs": 7}}),
    ]

    assert {key(teacher.STEP, params, data) for params in same} == {expected}
    assert len({key(teacher.STEP, params, data) for params in other} | {expected}) == 5


def test_temperature_is_the_students_alone(data: Artifact) -> None:
    """Another T is another student, and the same teacher and baseline."""
    hotter = changed(student={"objective": {"name": "kd", "temperature": 8}})
    given = {"teacher": data, "fold_teachers": data, "soft_targets": data}

    for step in (teacher.STEP, baseline.STEP):
        assert key(step, hotter, data) == key(step, PLAIN, data)
    assert key(student.STEP, hotter, data, **given) != key(student.STEP, PLAIN, data, **given)


@pytest.mark.parametrize("step", [teacher.STEP, baseline.STEP], ids=lambda step: step.name)
def test_objectives_do_not_count_for_those_who_use_none(step: Step) -> None:
    """Editing an objective, or the store of soft targets, retrains neither teacher nor baseline."""
    modules = reached([f"components.steps.{step.name}", *step.plugins(PLAIN)])

    assert "components.training.loop" in modules
    assert not [name for name in modules if "objectives" in name or "soft_targets" in name or "steps.student" in name]


def test_the_objective_counts_for_the_student() -> None:
    """The chosen objective, model, workload and transform files are in the student's key."""
    modules = reached(["components.steps.student", *student.STEP.plugins(changed(student={"views": SHIFTS}))])

    assert {
        "components.objectives.kd",
        "components.models._mlp",
        "components.workloads.image_classification",
        "components.transforms.affine",
        "components.soft_targets.reader",
    } <= set(modules)


# Soft targets that are not the student's


def test_targets_of_other_views_are_refused(runs: Runs) -> None:
    """A student on shifted samples does not take the logits of clean ones; the message says what differs."""
    made = runs(teacher.STEP).artifact
    clean = runs(load_step("soft_targets"), teacher=made).artifact

    with pytest.raises(SoftTargetsRefusedError, match=r"view_spec\.count is 1 and 2 is asked for"):
        runs(student.STEP, changed(student={"views": SHIFTS}), teacher=made, soft_targets=clean)


def test_targets_of_another_teacher_are_refused(runs: Runs) -> None:
    """The student expects its own teacher's targets, and the message names the digest that differs."""
    mine = runs(teacher.STEP).artifact
    another = runs(teacher.STEP, changed(teacher={"seed": 1})).artifact
    targets = runs(load_step("soft_targets"), teacher=another).artifact

    with pytest.raises(SoftTargetsRefusedError, match=rf"teacher_digest is '{another.digest}' and '{mine.digest}'"):
        runs(student.STEP, teacher=mine, soft_targets=targets)


def test_targets_of_other_views_may_be_asked_for(runs: Runs) -> None:
    """A study of the mistake says so in params, and runs."""
    _, made = runs.taught(changed(student={"views": SHIFTS, "allow_mismatched_views": True}))

    assert len(made.artifact.read_json("history.json")) == 4


# Teachers from a file


def from_file(file: Path) -> Params:
    return changed(
        teacher={"source": {"kind": "weights", "file": str(file)}, "train": {}, "model": BASE["teacher"]["model"]}
    )


@pytest.fixture
def weights(runs: Runs, tmp_path: Path) -> Path:
    """A file with the weights of a teacher that was trained elsewhere."""
    path = tmp_path / "elsewhere.safetensors"
    path.write_bytes(runs(teacher.STEP).artifact.file("weights.safetensors").read_bytes())
    return path


def test_weights_from_a_file_make_the_same_teacher(runs: Runs, weights: Path) -> None:
    """The same artifact as one that was trained here, but for the history, which is empty."""
    trained, brought = runs(teacher.STEP).artifact, runs(teacher.STEP, from_file(weights)).artifact

    assert brought.file("weights.safetensors").read_bytes() == trained.file("weights.safetensors").read_bytes()
    assert brought.read_json("metrics.json") == trained.read_json("metrics.json")
    assert brought.read_json("history.json") == []


def test_content_of_the_file_counts_and_its_place_does_not(runs: Runs, weights: Path, tmp_path: Path) -> None:
    """A moved file is a hit; other bytes under the same name are another teacher."""
    runs(teacher.STEP, from_file(weights))
    moved = weights.rename(tmp_path / "moved.safetensors")
    assert runs(teacher.STEP, from_file(moved)).cached

    tensors = safetensors.torch.load_file(moved)
    safetensors.torch.save_file({name: tensor * 2 for name, tensor in tensors.items()}, moved)
    assert not runs(teacher.STEP, from_file(moved)).cached


def test_all_that_does_not_fit_is_said_at_once(runs: Runs, weights: Path) -> None:
    """Missing, unexpected, misshapen and non-finite tensors are one message, with the way out."""
    tensors = safetensors.torch.load_file(weights)
    del tensors["prepare.mean"]
    tensors["extra"] = torch.zeros(2)
    tensors["head.0.weight"] = torch.zeros(3, 7)
    tensors["head.0.bias"] = torch.full((3,), torch.nan)
    safetensors.torch.save_file(tensors, weights)

    with pytest.raises(WeightsError) as raised:
        runs(teacher.STEP, from_file(weights))

    message = str(raised.value)
    for part in (
        "missing: prepare.mean [1]",
        "unexpected: extra [2]",
        "head.0.weight is [3, 7] in the file and [3, 8] in the model",
        "not finite: head.0.bias",
        "prepare.mean and prepare.std are the normalisation",
    ):
        assert part in message


@pytest.mark.parametrize("content", [None, b"not safetensors", b""], ids=["absent", "text", "empty"])
def test_a_file_that_holds_no_weights(runs: Runs, tmp_path: Path, content: bytes | None) -> None:
    """A file that is not there or is something else is named."""
    path = tmp_path / "w.safetensors"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(WeightsError, match=r"w\.safetensors (does not exist|is not a safetensors file)"):
        runs(teacher.STEP, from_file(path))


def test_a_folder_is_no_file_of_weights(runs: Runs, tmp_path: Path) -> None:
    """It exists, but cannot be read."""
    with pytest.raises(WeightsError, match=r"teacher\.source\.file: .* cannot be read"):
        runs(teacher.STEP, from_file(tmp_path))


def test_a_file_is_looked_for_in_the_repository_around_too(
    runs: Runs, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path means the same in a copy of the project inside it, where `dvc exp run --temp` works."""
    copy = tmp_path / "copy"
    for folder in (tmp_path, copy):
        (folder / ".git").mkdir(parents=True)
    monkeypatch.chdir(copy)

    brought = runs(teacher.STEP, from_file(Path(weights.name)))

    assert brought.artifact.file("weights.safetensors").read_bytes() == weights.read_bytes()
    with pytest.raises(WeightsError, match=r"teacher\.source\.file absent\.safetensors does not exist \(looked from"):
        runs(teacher.STEP, from_file(Path("absent.safetensors")))


# Teachers from a registry


def from_registry(uri: str) -> Params:
    return changed(teacher={"source": {"kind": "mlflow", "uri": uri}, "train": {}})


def test_a_registry_that_is_nowhere(runs: Runs) -> None:
    """A model URI without an MLflow address says how to get one."""
    with pytest.raises(ServerError, match=r"needs MLflow, and no address is known: set MLFLOW_TRACKING_URI"):
        runs(teacher.STEP, from_registry("models:/t@champion"))


@pytest.mark.slow
def test_a_registered_model_teaches(runs: Runs, tmp_path: Path) -> None:
    """A version in MLflow becomes a teacher artifact that says and measures the same, and teaches a student."""
    from components.registry import register_model, set_alias
    from components.tracking import RunSpec, project_run

    uri, locks = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "locks"
    trained = runs(teacher.STEP).artifact
    run = project_run(uri, "potstill", RunSpec("teacher", "teacher-identity"), [], lock_dir=locks)
    version = register_model(
        uri, name="t", artifact=trained, run_id=run.parent_run_id, sample_shape=(1, 8, 8), tags={}, lock_dir=locks
    )
    set_alias(uri, "t", "champion", version.version)
    there = Runs(runs.settings.model_copy(update={"tracking_uri": uri}), runs.store, runs.data)
    brought = there(teacher.STEP, from_registry("models:/t@champion"))
    samples = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)

    assert there(teacher.STEP, from_registry(f"models:/t/{version.version}")).cached
    assert brought.artifact.read_json("metrics.json") == pytest.approx(trained.read_json("metrics.json"), abs=1e-5)
    torch.testing.assert_close(load_model(brought.artifact)(samples), load_model(trained)(samples))
    targets = there(load_step("soft_targets"), from_registry("models:/t@champion"), teacher=brought.artifact)
    assert not there(student.STEP, teacher=brought.artifact, soft_targets=targets.artifact).cached


def test_metrics_of_a_student_are_plain_json(runs: Runs) -> None:
    """metrics.json is a flat mapping of numbers, as `dvc metrics` wants it."""
    _, made = runs.taught()
    metrics = json.loads(made.artifact.file("metrics.json").read_text(encoding="utf-8"))

    assert all(isinstance(value, float) for value in metrics.values())


def test_a_student_that_training_left_knowing_nothing_is_no_result(runs: Runs, settings: Settings) -> None:
    """The weights are finite, the loss never fell, and one answer would serve as well."""
    train = {**BASE["student"]["train"], "clip_grad_norm": 1.0, "optimizer": {"name": "adamw", "learning_rate": 3.0}}
    student = {"train": train, "model": {"name": "mlp", "hidden": [4, 4, 4]}}
    with pytest.raises(TrainingDivergedError, match="the model collapsed: after training its accuracy"):
        runs(load_step("baseline"), changed(student=student))
    assert not list(settings.var_dir.glob("store/baseline/*/manifest.json"))
