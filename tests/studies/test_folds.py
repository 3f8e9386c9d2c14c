"""Soft targets of teachers that have seen a sample's label against those of teachers that have not, few labels given."""

from __future__ import annotations

import pytest

from components.evaluation.over_seeds import paired_difference, spread
from flows.repeat import plain
from tests.studies._runs import SEEDS, Subject, digits, keep, own_data

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
