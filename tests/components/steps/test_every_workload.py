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


@pytest.mark.parametrize("name", plugins.available("workloads"))
def test_every_workload_goes_through_every_step(name: str, settings: Settings, store: Store, tmp_path: Path) -> None:
    """Validated, taught, distilled, measured, exported and reported; the floor of a teacher is asked in its metric."""
    params = params_for(name)
    made: dict[str, Artifact] = {"data": packed(store, name)}
    for step_name in ORDER:
        if step_name == "data":
            continue
        step = load_step(step_name)
        made[step_name] = execute(
            step,
            params=params,
            settings=settings,
            store=store,
            inputs={needed: made[needed] for needed in step.inputs},
            producer="test",
            progress=NoProgress(),
        ).artifact

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
