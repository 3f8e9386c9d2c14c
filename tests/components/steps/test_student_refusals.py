"""A student takes no soft targets but its own: whatever differs is named, and nothing is trained."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.artifacts.artifact import Artifact, write_json
from components.artifacts.store import Store
from components.contracts import NoProgress
from components.data.packing import write_packed
from components.data.splits import Splits
from components.errors import SoftTargetsRefusedError
from components.params import Params
from components.sample_ids import sample_ids
from components.settings import Settings
from components.soft_targets.header import HEADER
from components.steps import fold_teachers, soft_targets, student, teacher
from components.steps.execute import execute
from components.steps.step import Step
from components.workloads.image_classification import Params as Workload

NUM_MUTATIONS = 100
PARAMS = Params.model_validate(
    {
        "data": {"repository": ".", "path": "data", "format": {"name": "image_folder"}},
        "workload": {"name": "image_classification"},
        "teacher": {"model": {"name": "mlp", "hidden": [8]}, "train": {"epochs": 2, "batch_size": 4}},
        "student": {
            "model": {"name": "mlp", "hidden": [4]},
            "objective": {"name": "kd"},
            "train": {"epochs": 1, "batch_size": 4},
            "views": {"count": 3, "transforms": [{"name": "affine", "shift_pixels": 1}]},
        },
        "gate": {"floor": 0.0},
        "registry": {"student": "s", "teacher": "t"},
    }
)


class Pipeline:
    """Data, teacher and soft targets of tiny pictures."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings, self.store = settings, store
        self.artifacts = {"data": self._data()}
        for step in (teacher.STEP, fold_teachers.STEP, soft_targets.STEP):
            self.artifacts[step.name] = self.run(step)

    def _data(self) -> Artifact:
        def make(out: Path) -> None:
            decoded = Workload().build().tiny(seed=0)
            of = np.repeat(np.array([0, 1, 2], dtype=np.uint8), [12, 6, 6])
            write_packed(out, decoded, sample_ids(decoded.samples), Splits(of, dropped=(), conflicting=()))

        return self.store.commit("data", "0" * 64, {}, make)

    def run(self, step: Step, **other: Artifact) -> Artifact:
        return execute(
            step,
            params=PARAMS,
            settings=self.settings,
            store=self.store,
            inputs={**self.artifacts, **other},
            producer="test",
            progress=NoProgress(),
        ).artifact


def _text(draw: random.Random, old: str) -> str:
    place = draw.randrange(len(old))
    return old[:place] + draw.choice([c for c in "0123456789abcdef" if c != old[place]]) + old[place + 1 :]


def _teacher(header: dict[str, Any], draw: random.Random) -> str:
    header["identity"]["teacher_digest"] = _text(draw, header["identity"]["teacher_digest"])
    return "teacher_digest"


def _data(header: dict[str, Any], draw: random.Random) -> str:
    header["identity"]["data_digest"] = _text(draw, header["identity"]["data_digest"])
    return "data_digest"


def _class_order(header: dict[str, Any], draw: random.Random) -> str:
    names = header["identity"]["class_names"]
    one, other = draw.sample(range(len(names)), 2)
    names[one], names[other] = names[other], names[one]
    return f"class_names[{min(one, other)}]"


def _class_names(header: dict[str, Any], draw: random.Random) -> str:
    names = header["identity"]["class_names"]
    if draw.random() < 0.5:
        names.insert(draw.randrange(len(names) + 1), "another")
        return "class_names"
    place = draw.randrange(len(names))
    names[place] += "s"
    return f"class_names[{place}]"


def _views(header: dict[str, Any], draw: random.Random) -> str:
    views = header["identity"]["view_spec"]
    name = draw.choice(["seed", "count", "first_is_identity"])
    views[name] = not views[name] if name == "first_is_identity" else views[name] + draw.randint(1, 9)
    return f"view_spec.{name}"


def _transform(header: dict[str, Any], draw: random.Random) -> str:
    (transform,) = header["identity"]["view_spec"]["transforms"]
    name = draw.choice(sorted(transform))
    old = transform[name]
    transform[name] = {str: f"{old}_", bool: not old}.get(type(old)) or old + draw.randint(1, 9)
    return f"view_spec.transforms[0].{name}"


def _transforms(header: dict[str, Any], draw: random.Random) -> str:
    transforms = header["identity"]["view_spec"]["transforms"]
    if draw.random() < 0.5:
        transforms.append(copy.deepcopy(transforms[0]))
    else:
        transforms.clear()
    return "view_spec.transforms"


def _schema(header: dict[str, Any], draw: random.Random) -> str:
    header["schema_version"] += draw.choice([-1, 1, 2, 40])
    return "schema_version"


MUTATIONS: tuple[Callable[[dict[str, Any], random.Random], str], ...] = (
    _teacher, _data, _class_order, _class_names, _views, _transform, _transforms, _schema,
)  # fmt: skip


def test_a_hundred_of_a_hundred_mutations_are_refused_by_name(settings: Settings, store: Store, tmp_path: Path) -> None:
    """Teacher, data, views, classes, their order and the schema, one wrong each time."""
    pipeline = Pipeline(settings, store)
    own = pipeline.artifacts["soft_targets"]
    told = json.loads(own.file(HEADER).read_text())
    wrong = tmp_path / "wrong"
    shutil.copytree(own.root, wrong, copy_function=shutil.copyfile)
    draw = random.Random(0)
    refused = 0
    for number in range(NUM_MUTATIONS):
        header = copy.deepcopy(told)
        field = MUTATIONS[number % len(MUTATIONS)](header, draw)
        assert header != told
        write_json(wrong / HEADER, header)
        given = replace(own, key=f"{number:064x}", digest=f"{number:064x}", root=wrong)

        with pytest.raises(SoftTargetsRefusedError, match="soft targets refused") as raised:
            pipeline.run(student.STEP, soft_targets=given)

        assert f"{field} is " in str(raised.value)
        refused += 1
    assert refused == NUM_MUTATIONS
    assert not list(store.storage.keys("student"))
    assert pipeline.run(student.STEP).kind == "student"
