"""Which trial is recommended, how sure that is, and what is on the front."""

import json
import math
from pathlib import Path

import pytest
import yaml

from components.sweeps.page import headline, sentences, table_rows, write_sweep
from components.sweeps.results import (
    Recommendation,
    Student,
    SweepResult,
    TeacherResult,
    TrialResult,
    certainty,
    recommended,
    to_json,
    to_paste,
    to_set,
)
from components.workloads.image_classification import Params as Workload
from tests.components.sweeps.conftest import ALPHA, MODEL, T

MEASURES = Workload().build().measures
ACCURACY = MEASURES["accuracy"]
ROWS = 1000


def trial(number: int, values: dict, *accuracies: float, size: int = 100) -> TrialResult:
    students = tuple(Student(seed, f"k{seed}", "d", {"accuracy": each}) for seed, each in enumerate(accuracies))
    return TrialResult(number, "complete", values, students, size, size / 1000)


def pick(*trials: TrialResult, objectives: tuple[str, ...] = ("accuracy",)):
    return recommended(trials, metric="accuracy", measure=ACCURACY, objectives=objectives, num_rows=ROWS)


def sweep_result(*trials: TrialResult, control: TrialResult | None = None) -> SweepResult:
    picked = pick(*trials)
    chosen = None
    if picked:
        sure = certainty(picked[0], control, "accuracy", ACCURACY, ROWS)
        chosen = Recommendation(picked[0], picked[2], sure, picked[1])
    return SweepResult(
        name="x-1", metric="accuracy", measure=ACCURACY, objectives=("accuracy",), measures=MEASURES,
        trials=trials, hard_labels=(control,) if control else (), control=control,
        teacher=TeacherResult({"accuracy": 0.97}, 5000, 2.0), num_validation_rows=ROWS,
        recommendation=chosen, num_trained=4, num_found=0, seconds=3.0,
    )  # fmt: skip


def test_the_best_mean_is_recommended():
    """And those that are not measurably worse are named."""
    found = pick(trial(0, {T: 1}, 0.90, 0.92), trial(1, {T: 2}, 0.95, 0.95), trial(2, {T: 4}, 0.94, 0.95))
    assert found
    chosen, as_good, _ = found

    assert chosen.number == 1
    assert as_good == (2,), "0.91 lies outside the Wilson interval of the best"


def test_a_cost_prefers_the_cheapest_that_is_not_measurably_worse():
    """Neither the best at any price nor the cheapest at any quality."""
    trials = (
        trial(0, {T: 1}, 0.950, 0.950, 0.951, size=900),
        trial(1, {T: 2}, 0.949, 0.951, 0.948, size=100),
        trial(2, {T: 4}, 0.700, 0.710, 0.705, size=10),
    )
    found = pick(*trials, objectives=("accuracy", "num_parameters"))
    assert found

    assert found[0].number == 1
    assert found[1] == (0,)


def test_nothing_is_recommended_of_nothing():
    """All trials failed."""
    failed = TrialResult(0, "failed", {T: 1}, reason="diverged")
    assert pick(failed) is None
    assert headline(sweep_result(failed)).startswith("No trial")


def test_certainty_is_paired_over_seeds_or_wilson_with_one():
    """Which of the two is said."""
    paired = certainty(trial(0, {}, 0.9, 0.92), trial(-1, {}, 0.89, 0.9), "accuracy", ACCURACY, ROWS)
    alone = certainty(trial(0, {}, 0.9), trial(-1, {}, 0.89), "accuracy", ACCURACY, ROWS)
    assert paired and alone

    assert paired.method == "paired t over 2 seeds"
    assert paired.value == pytest.approx(0.015)
    assert alone.method == "Wilson, one seed, 1,000 validation samples"
    assert (alone.low, alone.high) == pytest.approx((0.8798, 0.9171), abs=1e-4)
    assert certainty(trial(0, {}, 0.9), None, "accuracy", MEASURES["nll"], ROWS) is None


def test_the_front_holds_what_no_other_beats_in_both():
    """The cheapest first; equal quality at a higher cost is not on it."""
    result = sweep_result(
        trial(0, {T: 1}, 0.90, size=10), trial(1, {T: 2}, 0.90, size=20),
        trial(2, {T: 4}, 0.95, size=30), trial(3, {T: 8}, 0.94, size=40),
    )  # fmt: skip
    assert [found.number for found in result.front("num_parameters")] == [0, 2]


def test_what_is_pasted_is_what_was_tried():
    """As YAML, and as options of a run."""
    values = {T: 4, ALPHA: 0.5, MODEL: {"name": "mlp", "hidden": [8]}}
    expected = {"student": {"objective": {"temperature": 4, "alpha": 0.5}, "model": {"name": "mlp", "hidden": [8]}}}

    assert yaml.safe_load(to_paste(values)) == expected
    assert to_set(values)[2] == "--set student.model='{name: mlp, hidden: [8]}'"


def test_json_has_no_number_that_is_none():
    """What was not measured is null."""
    result = sweep_result(TrialResult(0, "pruned", {T: 1}), trial(1, {T: 2}, 0.9, 0.8))
    told = json.loads(json.dumps(to_json(result), allow_nan=False))

    assert math.isnan(result.trials[0].latency_p50_ms)
    assert told["trials"][0]["latency_p50_ms"] is None
    assert told["recommendation"]["trial"] == 1


def test_the_page_shows_what_was_swept(tmp_path: Path):
    """A map for each combination of the rest, both fronts, and pictures of them; no trial is left out."""
    models = [{"name": "mlp", "hidden": [each]} for each in (4, 8)]
    trials = [
        trial(
            number, {T: t, ALPHA: alpha, MODEL: model}, 0.8 + number / 100, 0.81 + number / 100, size=50 * (1 + number)
        )
        for number, (t, alpha, model) in enumerate((t, a, m) for t in (1, 4) for a in (0.5, 0.9) for m in models)
    ]
    pruned = TrialResult(8, "pruned", {T: 8, ALPHA: 0.5, MODEL: models[0]}, reason="worse than half")
    result = sweep_result(*trials, pruned, control=trial(-1, {}, 0.8, 0.83))
    page = write_sweep(tmp_path, result, (), subtitle="digits").read_text(encoding="utf-8")

    assert {path.stem for path in tmp_path.glob("*.png")} == {
        "heat_map_1", "heat_map_2", "front_num_parameters", "front_latency_p50_ms",
    }  # fmt: skip
    assert page.count("<svg") == 4
    assert "trial 8 (temperature 8, alpha 0.5, model mlp (hidden [4])) pruned: worse than half" in page
    assert len(table_rows(result, every=True)) == 1 + 1 + 1 + 8
    assert any("paired t over 2 seeds" in sentence for sentence in sentences(result))
    assert "http" not in page.replace("http://www.w3.org", "")
