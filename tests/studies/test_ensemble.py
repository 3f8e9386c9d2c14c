"""How much of what five teachers together gain over one reaches the one student: Fashion-MNIST."""

from __future__ import annotations

import pytest

from components.evaluation.over_seeds import paired_difference, spread
from flows.repeat import plain
from tests.studies._runs import SEEDS, keep, own_data

pytestmark = [pytest.mark.study, pytest.mark.timeout(4 * 3600)]


def test_an_ensemble_against_each_of_its_members() -> None:
    """Student k learns from teacher k alone, and with the same seed from all five."""
    subject = own_data("fashion_mnist", "fashion-mnist")
    weights = [subject.teacher(f"teacher.seed={seed}") for seed in SEEDS]
    members = ", ".join(f"{{kind: weights, file: {file}}}" for file in weights)
    together = ("teacher.train={}", f"teacher.source={{kind: ensemble, members: [{members}]}}")

    alone = [subject.measured(f"teacher.seed={seed}", seed=seed) for seed in SEEDS]
    all_five = [subject.measured(*together, seed=seed) for seed in SEEDS]
    found = {}
    for metric in ("accuracy", "nll", "ece"):
        single = [run["student"][metric] for run in alone]
        taught = [run["student"][metric] for run in all_five]
        found[metric] = {
            "teachers": plain(spread([run["teacher"][metric] for run in alone])),
            "ensemble": all_five[0]["teacher"][metric],
            "baseline": plain(spread([run["baseline"][metric] for run in alone])),
            "student_of_one": plain(spread(single)),
            "student_of_five": plain(spread(taught)),
            "five_minus_one": plain(paired_difference(taught, single)),
            "per_seed": {"student_of_one": single, "student_of_five": taught},
        }
    accuracy = found["accuracy"]
    gain = accuracy["ensemble"] - accuracy["teachers"]["mean"]
    share = {end: accuracy["five_minus_one"][end] / gain for end in ("mean", "low", "high")}
    keep("ensemble", {**found, "teachers_gain": gain, "share_of_it_that_arrives": share})

    assert gain > 0, "the ensemble is no better than one of its members: there is nothing to pass on"
