"""Every workload goes through every step that follows the data; a new file in components/workloads/ does by being there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components import plugins
from components.artifacts.artifact import Artifact
from components.artifacts.store import Store
from components.contracts import NoProgress
from components.data.packed import open_packed
from components.data.packing import write_packed
from components.data.splits import Splits
from components.errors import BadInputError
from components.params import Params
from components.report.data import ReportData
from components.report.page import to_markdown, write_report
from components.report.stage_files import flat_metrics
from components.sample_ids import sample_ids
from components.settings import Settings
from components.steps.execute import execute
from components.steps.pipeline import ORDER, load_step

OBJECTIVES = {"classes": "kd", "numbers": "regression_kd"}
TRAIN = {"epochs": 2, "batch_size": 4, "optimizer": {"name": "adamw", "learning_rate": 0.01}}


def params_for(name: str) -> Params:
    workload = plugins.params_class("workloads", name)().build()  # type: ignore[attr-defined]
    return Params.model_validate(
        {
            "data": {"repository": ".", "path": "data", "format": {"name": "image_folder"}},
            "workload": {"name": name},
            "validation": {"min_rows": 1, "duplicate_share_max": 1.0},
            "teacher": {"model": {"name": "mlp", "hidden": [8]}, "train": TRAIN},
            "soft_targets": {"min_entropy_nats": 0.0, "max_entropy_share": 1.0},
            "student": {
                "model": {"name": "mlp", "hidden": [2]},
                "objective": {"name": OBJECTIVES[workload.labels]},
                "train": TRAIN,
                "views": {"count": 2, "transforms": [{"name": "mixup"}]},
            },
            "evaluate": {"bootstrap_resamples": 100, "latency_repeats": 10},
            "gate": {"metric": workload.primary_metric, "floor": 0.0},
            "registry": {"student": "s", "teacher": "t"},
        }
    )


def packed(store: Store, name: str) -> Artifact:
    """The workload's own tiny data; one training sample has no label."""

    def make(out: Path) -> None:
        tiny = plugins.params_class("workloads", name)().build().tiny(seed=0)  # type: ignore[attr-defined]
        count = len(tiny.labels)
        of = np.repeat(np.array([0, 1, 2], dtype=np.uint8), [count - 2 * (count // 4), count // 4, count // 4])
        tiny.labels[0] = np.nan if tiny.target_names else -1
        write_packed(out, tiny, sample_ids(tiny.samples), Splits(of, dropped=(), conflicting=()))

    return store.commit("data", "0" * 64, {}, make)


def all_steps(params: Params, data: Artifact, settings: Settings, store: Store) -> dict[str, Artifact]:
    """What every step that follows the data makes of it."""
    made = {"data": data}
    for name in ORDER[1:]:
        step = load_step(name)
        made[name] = execute(
            step,
            params=params,
            settings=settings,
            store=store,
            inputs={needed: made[needed] for needed in step.inputs},
            producer="test",
            progress=NoProgress(),
        ).artifact
    return made


@pytest.mark.parametrize("name", plugins.available("workloads"))
def test_every_workload_goes_through_every_step(name: str, settings: Settings, store: Store, tmp_path: Path) -> None:
    """Validated, taught, distilled, measured, exported and reported; the floor of a teacher is asked in its metric."""
    params = params_for(name)
    made = all_steps(params, packed(store, name), settings, store)
    workload, metrics = params.workload.build(), made["evaluate"].read_json("metrics.json")
    assert set(workload.measures) | set(workload.fidelity_measures) <= set(metrics["student"])
    report = ReportData(artifacts=made, params=params)
    assert write_report(tmp_path / "report", report).stat().st_size > 10_000
    assert workload.measures[workload.primary_metric].title in to_markdown(report)
    assert flat_metrics(made["evaluate"])[workload.primary_metric] == pytest.approx(
        metrics["student"][workload.primary_metric], abs=1e-6
    )


@pytest.mark.parametrize("name", plugins.available("workloads"))
def test_labels_of_another_kind_are_refused(name: str, store: Store) -> None:
    """A workload of classes on numbers and the other way round, with a way out."""
    spec = open_packed(packed(store, name)).spec
    other = next(
        each
        for each in plugins.available("workloads")
        if plugins.params_class("workloads", each)().build().labels != spec.label_kind  # type: ignore[attr-defined]
    )
    with pytest.raises(BadInputError, match=f"are {spec.label_kind}, and workload '{other}' learns"):
        params_for(other).workload_for(spec)


OWN = {
    "__init__.py": '"""Somebody else\'s package."""\n',
    "workload.py": """
from components.contracts import Measure, WorkloadParams
from components.workloads.image_classification import ImageClassification

class TopTwo(ImageClassification):
    measures = {**ImageClassification.measures, "top2": Measure("top-2 accuracy", "higher", "share", of_rows="share")}
    primary_metric = "top2"

    def _right(self, outputs, labels):
        return (outputs.argsort(axis=1)[:, -2:] == labels[:, None]).any(axis=1).astype(float)

    def metrics(self, outputs, labels):
        return {**super().metrics(outputs, labels), "top2": float(self._right(outputs, labels).mean())}

    def row_scores(self, outputs, labels):
        return {**super().row_scores(outputs, labels), "top2": self._right(outputs, labels)}

class Params(WorkloadParams):
    name: str = "acme_vision.workload"

    def build(self, data=None):
        return TopTwo()
""",
    "model.py": """
from torch import nn
from components.contracts import ModelParams

class Mean(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.last = nn.Linear(1, outputs)

    def forward(self, samples):
        return self.last(samples.flatten(1).float().mean(1, keepdim=True) / 255)

class Params(ModelParams):
    name: str = "acme_vision.model"

    def build(self, data):
        return Mean(data.num_outputs)
""",
    "objective.py": """
from components.contracts import ObjectiveParams

class Closer:
    needs = frozenset({"logits"})
    student_taps = teacher_taps = ()
    reduction = "rows"

    def __init__(self, alpha, weight):
        self.alpha, self.weight = alpha, weight

    def __call__(self, student, teacher, batch):
        return (student.logits - teacher.logits).abs().mean(1)

    def parameters(self):
        return iter(())

class Params(ObjectiveParams):
    name: str = "acme_vision.objective"

    def build(self, spec):
        return Closer(self.alpha, self.weight)
""",
}


def test_a_package_of_ones_own_brings_workload_model_and_objective(
    settings: Settings, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By dotted names: its metric leads the table and can be the gate's and the floor's, and no file here is touched."""
    (tmp_path / "acme_vision").mkdir()
    for name, text in OWN.items():
        (tmp_path / "acme_vision" / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    known = params_for("image_classification").model_dump(mode="json")
    student = {
        **known["student"],
        "model": {"name": "acme_vision.model"},
        "objective": {"name": "acme_vision.objective"},
    }
    changes = {
        "workload": {"name": "acme_vision.workload"},
        "teacher": {**known["teacher"], "floor": {"top2": 0.1}},
        "student": student,
        "gate": {**known["gate"], "metric": "top2"},
    }
    params = Params.model_validate({**known, **changes})
    made = all_steps(params, packed(store, "image_classification"), settings, store)
    report = ReportData(artifacts=made, params=params)

    assert made["student"].read_json("model.json")["family"] == "acme_vision.model"
    assert report.metrics["primary"]["metric"] == "top2"
    assert report.metrics["student"]["top2_low"] <= report.metrics["student"]["top2"]
    assert "top-2 accuracy" in to_markdown(report)
