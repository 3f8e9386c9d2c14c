"""What MLflow is told: names that its pages can group, curves that mean something, sentences for people."""

from pathlib import Path
from typing import Any

import pytest

from components import records
from components.artifacts.artifact import MANIFEST, Artifact, Manifest, write_json
from components.params import Params
from components.records import Lineage
from components.report.data import ReportData
from components.tracking import DatasetRef, RunSpec

LINEAGE = Lineage({"data.revision": "v1"}, DatasetRef("digits", "d" * 32, "repo/digits@c"))
PARAMS: dict[str, Any] = {
    "data": {"repository": ".", "path": "digits", "revision": "v1", "format": {"name": "parquet"}},
    "workload": {"name": "image_classification"},
    "teacher": {"model": {"name": "convnet"}},
    "student": {"model": {"name": "mlp"}, "objective": {"name": "kd", "temperature": 4, "alpha": 0.9}},
    "gate": {"floor": 0.9},
    "registry": {"student": "s", "teacher": "t"},
}
ARM = {"accuracy": 0.9, "accuracy_low": 0.85, "accuracy_high": 0.93}
EVALUATION = {
    "confidence": 0.95,
    "holdout": {"num_rows": 1860, "digest": "h" * 64},
    "teacher": {**ARM, "accuracy": 0.98, "num_parameters": 100_000},
    "baseline": {**ARM, "accuracy": 0.88, "num_parameters": 20_000},
    "student": {**ARM, "num_parameters": 20_000},
    "differences": {"student_minus_baseline": {"accuracy": {"difference": 0.02}}},
    "per_class": [{"recall": 0.5}],
}


def artifact(folder: Path, kind: str, code: dict[str, str] | None = None, **files: Any) -> Artifact:
    folder.mkdir()
    for name, tree in files.items():
        write_json(folder / f"{name}.json", tree)
    fields = {"params": {"seed": 0}, "code": code or {}, "facts": {"md5": "m" * 32}}
    cost = {"seconds": 40.0, "device": "cpu"}
    manifest = Manifest(kind, "k", fields, (), (), "d", "run-1", {}, "2026-01-01T00:00:00+00:00", cost)
    (folder / MANIFEST).write_text(manifest.dump(), encoding="utf-8")
    return Artifact(kind, "k", "d", folder)


def values(record: RunSpec) -> dict[str, float]:
    return {point.key: point.value for point in record.metrics}


@pytest.fixture
def evaluation(tmp_path: Path) -> Artifact:
    return artifact(tmp_path / "evaluate", "evaluate", metrics=EVALUATION)


def test_each_arm_is_a_group_of_charts(evaluation: Artifact):
    """MLflow groups by what stands before the slash; parameters, tables and texts are no metrics."""
    told = values(records.step_record(evaluation, LINEAGE))

    assert told == {
        "holdout/num_rows": 1860,
        **{
            f"{arm}/{name}": value
            for arm in ("teacher", "baseline", "student")
            for name, value in EVALUATION[arm].items()
        },
        "differences/student_minus_baseline.accuracy.difference": 0.02,
        "system/step_seconds": 40,
    }


def test_the_parent_has_the_scores_and_not_the_cost_of_measuring_them(evaluation: Artifact):
    """The parent's page opens with what the run came to."""
    child = records.step_record(evaluation, LINEAGE)

    told = values(records.parent_record("run", [child], LINEAGE, {}, status="FINISHED"))

    assert told["student/accuracy"] == 0.9
    assert not [name for name in told if name.startswith("system/")]


@pytest.mark.parametrize(
    ("kind", "curves"), [("student", {"loss_distillation", "loss_hard"}), ("teacher", {"loss_hard"})]
)
def test_curves_of_training(tmp_path: Path, kind: str, curves: set[str]):
    """Only who learns from a teacher has a distillation loss; the kept weights' scores say of which split they are."""
    history = [{"epoch": 1, "loss_distillation": 0.0, "loss_hard": 2.0}]
    made = artifact(tmp_path / kind, kind, metrics={"accuracy": 0.5}, history=history)

    told = values(records.step_record(made, LINEAGE))

    assert set(told) == {"final/validation_accuracy", "system/step_seconds", *curves}


def test_temperatures_are_named_as_such(tmp_path: Path):
    """entropy.2.0.mean would say nothing to anybody."""
    quality = {"entropy": {"2.0": {"mean": 0.3}}, "live": {"kl": {"20": {"mean_kl": 1e-6}}}, "log_num_classes": 2.3}
    made = artifact(tmp_path / "soft", "soft_targets", quality=quality)

    told = values(records.step_record(made, LINEAGE))

    assert {"entropy/T2.0.mean", "live/kl.T20.mean_kl", "log_num_classes"} < set(told)


def test_a_run_is_described_for_people(evaluation: Artifact):
    """By the note where there is one, else by what went wrong."""
    child = records.step_record(evaluation, LINEAGE)

    described = records.parent_record("run", [child], LINEAGE, {}, status="FINISHED", note="# good")
    failed = records.parent_record("run", [child], LINEAGE, {}, status="FAILED", failure="no room")

    assert described.tags["mlflow.note.content"] == "# good"
    assert failed.tags["mlflow.note.content"] == failed.tags["potstill.failure"] == "no room"


def test_the_code_digest_is_that_of_all_modules(tmp_path: Path):
    """Another module, or another version of one, is another digest; the order of the steps is none."""

    def digest(*codes: dict[str, str]) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        kinds = ("data", "student")[: len(codes)]
        made = {kind: artifact(folder / kind, kind, code) for kind, code in zip(kinds, codes, strict=True)}
        return records.lineage_of(made, {}, {}, data_name="digits").tags["code.digest"]

    first, second = {"a": "1"}, {"b": "2"}
    assert digest(first, second) == digest(second, first)
    assert len({digest(first, second), digest(first, {"b": "3"}), digest(first)}) == 3


def test_versions_are_described_by_what_they_are_and_reach(evaluation: Artifact):
    """Model, size, objective, test accuracy with its interval, and what to compare it with."""
    report = ReportData(artifacts={"evaluate": evaluation}, params=Params.model_validate(PARAMS))

    student = records.student_note(report).replace("\N{NO-BREAK SPACE}", " ")
    teacher = records.teacher_note(report).replace("\N{NO-BREAK SPACE}", " ")

    assert student == (
        "mlp with 20,000 parameters, 5.0 times fewer than its teacher (convnet); objective kd (temperature 4, alpha 0.9). "
        "Test accuracy 90.00 % (85.00–93.00) on 1,860 samples of digits at v1; its teacher 98.00 %, "
        "the same model on hard labels alone 88.00 %."
    )
    assert teacher == (
        "convnet with 100,000 parameters. Test accuracy 98.00 % (85.00–93.00) on 1,860 samples of digits at v1."
    )
