"""Several seeds of both students, and the statistics of their difference."""

import json
import subprocess
import sys

import pytest

from components.workloads import tabular_regression
from components.workloads.image_classification import Params
from flows.repeat import STEPS, markdown, summary

SCRIPT = """\
import json
from pathlib import Path
from flows.repeat import markdown, repeat, write
for _ in range(2):
    result = repeat(Path("params.yaml"), (), seeds=2, name="small")
write(result, Path("var/repeats/small"), text=markdown(result))
"""


def metrics(accuracy: float) -> dict[str, float]:
    return {
        "accuracy": accuracy,
        "nll": 1.0,
        "ece": 0.1,
        "agreement_with_teacher": 0.5,
        "kl_to_teacher": 0.1,
        "num_parameters": 10,
    }


def test_the_table_has_a_row_an_arm_and_one_for_the_difference():
    """With the mean, the deviation and the interval."""
    seeds = [
        {"teacher": metrics(0.9), "baseline": metrics(b), "student": metrics(s)} for b, s in ((0.7, 0.8), (0.8, 0.9))
    ]
    text = markdown({"name": "x", "seeds": [0, 1], "minutes": 1.0, **summary(seeds, Params().build())})

    assert "| teacher | 0.9000 |" in text
    assert "| hard-label student | 0.7500 ± 0.0707 |" in text
    assert "| distilled - hard labels | +0.1000 [" in text


@pytest.mark.slow
def test_seeds_share_data_and_teacher_and_a_second_time_finds_all(world):
    """Two seeds differ, the teacher does not; all steps of the second time are found."""
    subprocess.run([sys.executable, "-c", SCRIPT], cwd=world.root, env=world.environment, check=True, timeout=300)
    result = json.loads((world.root / "var" / "repeats" / "small" / "result.json").read_text())

    assert result["cached_steps"] == 2 * len(STEPS)
    assert result["arms"]["teacher"]["accuracy"]["sd"] == 0
    assert result["per_seed"][0]["student"] != result["per_seed"][1]["student"]


def test_columns_are_those_of_the_workload():
    """Errors of numbers, where less is better, and how near the students are to the teacher."""
    workload = tabular_regression.Params().build()
    one = {"rmse": 50.0, "mae": 40.0, "r2": 0.4, "rmse_to_teacher": 7.0, "num_parameters": 10}
    seeds = [{"teacher": one, "baseline": {**one, "rmse": 60 + seed}, "student": one} for seed in range(2)]
    text = markdown({"name": "x", "seeds": [0, 1], "minutes": 1.0, **summary(seeds, workload)})

    assert "|  | RMSE | MAE | R² | RMSE to teacher | parameters |" in text
    assert "| distilled - hard labels | -10.5000 [" in text
