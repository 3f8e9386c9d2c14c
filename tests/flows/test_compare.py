"""Facts about the table of methods."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from components.errors import BadInputError, ParamsError
from components.params import load_params
from flows.compare import chosen_place, compare, markdown, summary

COMPARISON = {
    "seeds": 2,
    "search_seeds": 2,
    "methods": {
        "kd": [{"name": "kd", "temperature": 2}, {"name": "kd", "temperature": 4}],
        "squared": [{"name": "mse_logits"}],
        "broken": [{"name": "mse_logits", "weight": 1.0e30}, {"name": "mse_logits", "weight": 1.0e31}],
    },
}
SCRIPT = """\
import json
from pathlib import Path
from flows.compare import compare
print(json.dumps([compare(Path("params.yaml"), (), name="small") for _ in range(2)]))
"""
TITLES = {"accuracy": "accuracy", "nll": "NLL", "ece": "ECE"}


def seed(baseline: float, student: float) -> dict:
    def arm(accuracy: float) -> dict[str, float]:
        return {"accuracy": accuracy, "nll": 1.0, "ece": 0.1}

    fitted = {"temperature": 2.0, "nll": 0.5, "ece": 0.05}
    return {"baseline": arm(baseline), "student": arm(student), "calibrated": {"baseline": fitted, "student": fitted}}


METHODS = {
    "kd": {"said": "kd", "tried": [], "per_seed": [seed(0.7, 0.75), seed(0.7, 0.76), seed(0.7, 0.77)]},
    "other": {"said": "other", "tried": [], "per_seed": [seed(0.7, 0.74), seed(0.7, 0.76), seed(0.7, 0.78)]},
    "lost": {"said": "lost", "tried": [], "per_seed": [], "diverged": "at epoch 1"},
}


def test_the_best_mean_on_validation_is_chosen():
    """Of equal ones the first; what diverged is never chosen; a loss is better when it is lower."""
    tried = [{"validation": values} for values in ([], [0.8, 0.6], [0.9, 0.6], [0.9, 0.6])]

    assert chosen_place(tried, better="higher") == 2
    assert chosen_place(tried, better="lower") == 1
    assert chosen_place(tried[:1], better="higher") is None


def test_differences_are_paired_and_corrected_within_a_family():
    """Both methods against hard labels are a family of two; the one beside the reference a family of one."""
    found = summary(METHODS, primary="accuracy", reference="kd")
    to_hard = found["minus_hard_labels"]

    assert to_hard["kd"]["mean"] == pytest.approx(0.06)
    assert to_hard["kd"]["p_holm"] == pytest.approx(2 * to_hard["kd"]["p_value"])
    assert to_hard["other"]["p_holm"] == pytest.approx(max(to_hard["other"]["p_value"], to_hard["kd"]["p_holm"]))
    assert list(found["minus_reference"]) == ["other"]
    assert found["minus_reference"]["other"]["mean"] == pytest.approx(0)


def test_the_table_has_a_row_a_method_and_names_what_diverged():
    """With calibration as it is and after the fitted temperature."""
    result = {"name": "x", "measures": TITLES, "primary": "accuracy", "reference": "kd", "minutes": 1.0}
    text = markdown({**result, "methods": METHODS, **summary(METHODS, primary="accuracy", reference="kd")})

    assert "| method | accuracy | − hard labels | − kd | NLL | ECE | T fitted | NLL at T | ECE at T |" in text
    assert "| hard labels | 0.7000 ± 0.0000 |" in text
    assert "| other | 0.7600 ± 0.0200 | +0.0600 [" in text
    assert "| lost: diverged |" in text
    assert "- lost: lost; at epoch 1" in text


def test_nothing_to_compare_is_said():
    """All methods diverged."""
    with pytest.raises(BadInputError, match="no method gave a student with every seed"):
        summary({"lost": METHODS["lost"]}, primary="accuracy", reference="kd")


def test_a_file_without_methods_is_refused(world, monkeypatch):
    """With the way out."""
    monkeypatch.chdir(world.root)
    with pytest.raises(BadInputError, match="has no section comparison"):
        compare(Path("params.yaml"), (), name="small")


def test_a_reference_that_is_no_row_is_refused(world):
    """At load, with the rows that there are."""
    comparison = yaml.safe_dump({**COMPARISON, "reference": "dkd"}, sort_keys=False)
    with pytest.raises(ParamsError, match=r"reference 'dkd' is not one of the methods \(kd, squared, broken\)"):
        load_params(world.root / "params.yaml", [f"comparison={comparison}"])


@pytest.mark.slow
def test_a_second_time_finds_every_student_and_says_the_same(world):
    """Real students: the choice is the best on validation, what diverges is reported, and a second time only reads."""
    text = (world.root / "params.yaml").read_text() + yaml.safe_dump({"comparison": COMPARISON}, sort_keys=False)
    (world.root / "params.yaml").write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=world.root,
        env=world.environment,
        check=True,
        timeout=500,
        capture_output=True,
        text=True,
    )
    first, second = json.loads(done.stdout.splitlines()[-1])

    assert {**first, "minutes": 0} == {**second, "minutes": 0}
    assert first["methods"]["kd"]["tried"][0]["validation"] != first["methods"]["kd"]["tried"][1]["validation"]
    means = [sum(one["validation"]) for one in first["methods"]["kd"]["tried"]]
    assert first["methods"]["kd"]["objective"] == first["methods"]["kd"]["tried"][means.index(max(means))]["objective"]
    assert all("is not a finite number" in one["diverged"] for one in first["methods"]["broken"]["tried"])
    assert first["methods"]["broken"]["per_seed"] == []
    assert list(first["rows"]) == ["hard labels", "kd", "squared"]
    calibrated = first["methods"]["kd"]["per_seed"][0]["calibrated"]["student"]
    assert calibrated["nll"] != first["methods"]["kd"]["per_seed"][0]["student"]["nll"]
