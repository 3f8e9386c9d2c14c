"""Facts about a student step whose teacher runs live beside stored soft targets."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.artifacts.artifact import Artifact
from components.artifacts.store import Store
from components.contracts import NoProgress
from components.data.packing import write_packed
from components.data.splits import Splits
from components.errors import BadInputError
from components.params import Params
from components.programs import save_program, trace
from components.sample_ids import sample_ids
from components.saved_models import load_model
from components.settings import Settings
from components.steps import fold_teachers, soft_targets, student, teacher
from components.steps.execute import Outcome, execute
from components.steps.step import Step
from components.workloads.image_classification import Params as Workload

BOTH = {
    "name": "combined",
    "alpha": 0.5,
    "parts": [
        {"name": "kd", "temperature": 2},
        {"name": "attention_transfer", "weight": 5},
        {"name": "fitnet_hints", "student_tap": "embedding"},
        {"name": "crd", "weight": 0.1, "num_negatives": 4, "embedding_width": 4},
    ],
}


class Told(NoProgress):
    def __init__(self) -> None:
        self.said = ""

    def say(self, message: str) -> None:
        self.said += message


class Pipeline:
    """Data, teacher and soft targets of tiny pictures, and students taught by one objective or another."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings, self.store = settings, store
        self.artifacts = {"data": self._data()}
        for step in (teacher.STEP, fold_teachers.STEP, soft_targets.STEP):
            self.artifacts[step.name] = self.run(step).artifact

    def _data(self) -> Artifact:
        def make(out: Path) -> None:
            decoded = Workload().build().tiny(seed=0)
            of = np.repeat(np.array([0, 1, 2], dtype=np.uint8), [12, 6, 6])
            write_packed(out, decoded, sample_ids(decoded.samples), Splits(of, dropped=(), conflicting=()))

        return self.store.commit("data", "0" * 64, {}, make)

    def run(
        self, step: Step, objective: dict[str, Any] = BOTH, progress: NoProgress | None = None, **inputs: Artifact
    ) -> Outcome:
        return execute(
            step,
            params=params(objective),
            settings=self.settings,
            store=self.store,
            inputs={**self.artifacts, **inputs},
            producer="test",
            progress=progress or NoProgress(),
        )


def params(objective: dict[str, Any], **changed: Any) -> Params:
    return Params.model_validate(
        {
            "data": {"repository": ".", "path": "data", "format": {"name": "image_folder"}},
            "workload": {"name": "image_classification"},
            "teacher": {"model": {"name": "convnet", "channels": [8, 12]}, "train": {"epochs": 2, "batch_size": 4}},
            "student": {
                "model": {"name": "convnet", "channels": [4, 6]},
                "objective": objective,
                "train": {"epochs": 3, "batch_size": 4},
                "views": {"count": 3, "transforms": [{"name": "affine", "shift_pixels": 1}]},
                **changed,
            },
            "gate": {"floor": 0.0},
            "registry": {"student": "s", "teacher": "t"},
        }
    )


@pytest.fixture
def pipeline(settings: Settings, store: Store) -> Pipeline:
    return Pipeline(settings, store)


@pytest.mark.slow
def test_stored_logits_and_live_features_together(pipeline: Pipeline) -> None:
    """kd from the store and three objectives on features at once; every part counts, and the step says what it costs."""
    told = Told()
    made = pipeline.run(student.STEP, progress=told)
    history = made.artifact.read_json("history.json")
    plain = pipeline.run(student.STEP, {"name": "kd", "temperature": 2, "alpha": 0.5})
    again = pipeline.run(student.STEP)

    assert "objective combined needs the teacher's features: it runs live beside the student, in fp32" in told.said
    assert all(math.isfinite(epoch["loss_distillation"]) for epoch in history)
    assert history[0]["loss_distillation"] != plain.artifact.read_json("history.json")[0]["loss_distillation"]
    assert made.artifact.digest != plain.artifact.digest
    assert (made.cached, again.cached, again.artifact.digest) == (False, True, made.artifact.digest)


@pytest.mark.slow
def test_student_is_taught_the_same_whatever_was_computed_before(pipeline: Pipeline) -> None:
    """Made again from nothing, it is the same student, bit by bit: banks, negatives and regressors come from its seed."""
    made = pipeline.run(student.STEP)
    shutil.rmtree(pipeline.store.storage.root / "student")
    again = pipeline.run(student.STEP)

    assert not again.cached
    assert again.artifact.digest == made.artifact.digest


def test_only_features_need_a_live_teacher() -> None:
    """Which is said before anything runs, and then its precision is part of what decides the student."""
    logits, features = params({"name": "kd"}), params({"name": "rkd"}, live_precision="bf16")

    assert student.STEP.notice(logits) == ""
    assert "objective rkd" in student.STEP.notice(features)
    assert "in bf16" in student.STEP.notice(features)
    assert "live_precision" not in student.STEP.reads(logits)
    assert student.STEP.reads(features)["live_precision"] == "bf16"


@pytest.mark.slow
def test_a_teacher_that_cannot_be_listened_to_is_refused(pipeline: Pipeline, tmp_path: Path) -> None:
    """An exported program, as it comes from MLflow, names no tap points: said, with the way out, before any training."""
    program = tmp_path / "teacher"
    program.mkdir()
    save_program(trace(load_model(pipeline.artifacts["teacher"]), (1, 8, 8)), program / "model.pt2")
    (program / "model.json").write_text('{"format": "torch_export"}', encoding="utf-8")
    exported = Artifact("teacher", "key", pipeline.artifacts["teacher"].digest, program)

    with pytest.raises(
        BadInputError, match=r"no stage of one name.*teacher: none that it names itself.*exported program"
    ):
        pipeline.run(student.STEP, {"name": "attention_transfer"}, teacher=exported)
    with pytest.raises(BadInputError, match=r"the teacher has no tap point 'embedding'; it has: none that it names"):
        pipeline.run(student.STEP, {"name": "rkd"}, teacher=exported)
