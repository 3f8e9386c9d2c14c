"""Soft targets of teachers that have seen a sample's label against those of teachers that have not, few labels given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.data.packed import open_packed
from components.evaluation.over_seeds import paired_difference, spread
from components.evaluation.predict import predict_logits
from components.saved_models import load_model
from components.soft_targets.reader import SoftTargets
from flows.repeat import STEPS, plain
from tests.studies._runs import SEEDS, Subject, digits, index_file, keep, own_data

pytestmark = [pytest.mark.study, pytest.mark.timeout(4 * 3600)]
FOLDS = "teacher.folds"


def _banking77(labels: str) -> Subject:
    return own_data("banking77_few_labels", "banking77", labels)


SUBJECTS = {
    "banking77, 900 labels": lambda: _banking77("student.labels={by: count, count: 900}"),
    "banking77, all labels": lambda: _banking77("student.labels={by: all}"),
    "digits, 10 labels a class": lambda: digits(
        "student.rows=train", "student.labels={by: count, count: 10, per: class}"
    ),
    "digits, all labels": lambda: digits("student.rows=train"),
}


@pytest.mark.parametrize("name", SUBJECTS)
def test_out_of_fold_against_in_fold(name: str) -> None:
    """Five seeds of a student on each, paired; teacher, student, steps and labels are the same."""
    subject = SUBJECTS[name]()
    runs = {folds: [subject.measured(f"{FOLDS}={folds}", seed=seed) for seed in SEEDS] for folds in (1, 5)}
    found = {}
    for metric in ("accuracy", "nll", "ece"):
        values = {folds: [run["student"][metric] for run in runs[folds]] for folds in runs}
        found[metric] = {
            "teacher": runs[1][0]["teacher"][metric],
            "baseline": plain(spread([run["baseline"][metric] for run in runs[1]])),
            "in_fold": plain(spread(values[1])),
            "out_of_fold": plain(spread(values[5])),
            "out_of_fold_minus_in_fold": plain(paired_difference(values[5], values[1])),
            "per_seed": {"in_fold": values[1], "out_of_fold": values[5]},
        }
    keep(f"folds, {name}", found)

    assert found["accuracy"]["out_of_fold"]["mean"] > found["accuracy"]["baseline"]["mean"] - 0.02


def test_soft_targets_against_the_hard_labels_of_the_same_teachers(tmp_path: Path) -> None:
    """Intents of which the student sees 900 labels: for all others the whole distribution, or its largest class alone."""
    chosen = "{by: index, array: labelled}" if index_file("banking77").exists() else "{by: count, count: 900}"
    subject = _banking77(f"student.labels={chosen}")
    said = _largest_classes(subject, tmp_path / "said.npz")
    source = f"{{kind: black_box, file: {said}, answers: labels, smoothing: 1.0e-6}}"
    one_hot = (f"teacher={{source: {source}, model: {{name: mlp}}}}", "soft_targets.min_entropy_nats=0")
    soft = subject.accuracies()
    hard = subject.accuracies(*one_hot, "student.objective={name: kd, temperature: 1, alpha: 0.9}")
    keep(
        "soft and hard labels of teachers, banking77",
        {
            "baseline": plain(spread(subject.accuracies(arm="baseline"))),
            "soft_targets": plain(spread(soft)),
            "teachers_hard_labels": plain(spread(hard)),
            "soft_minus_hard": plain(paired_difference(soft, hard)),
            "per_seed": {"soft_targets": soft, "teachers_hard_labels": hard},
        },
    )

    assert np.mean(soft) > np.mean(hard)


def _largest_classes(subject: Subject, file: Path) -> Path:
    """What out-of-fold teachers say of training samples, and the teacher of all others, as a black box would."""
    made = subject.run(*STEPS[: STEPS.index("soft_targets") + 1], seed=0).artifacts()
    data, targets = open_packed(made["data"]), SoftTargets.open(made["soft_targets"])
    others = np.concatenate([data.rows("validation"), data.rows("test")])
    of_others = predict_logits(load_model(made["teacher"]), data.samples, others).argmax(1)
    rows = data.rows("train")
    of_rows = targets.take(targets.places(rows), 0).numpy().argmax(1)
    ids = [data.sample_ids[row].tobytes().hex() for row in np.concatenate([rows, others])]
    np.savez(file, sample_id=np.array(ids), labels=np.concatenate([of_rows, of_others]))
    return file
