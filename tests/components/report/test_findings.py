"""What the report claims for given intervals."""

import copy

import pytest

from components.report import findings
from components.workloads.image_classification import Params


def find(metrics: dict) -> findings.Finding:
    return findings.find(metrics, Params().build())


@pytest.fixture
def metrics(make_report) -> dict:
    return copy.deepcopy(dict(make_report().metrics))


def with_interval(metrics: dict, difference: float, low: float, high: float) -> dict:
    metrics["differences"]["student_minus_baseline"]["accuracy"] = {"difference": difference, "low": low, "high": high}
    return metrics


def test_an_interval_with_zero_is_no_gain(metrics: dict) -> None:
    """Whatever the point estimate says."""
    finding = find(with_interval(metrics, 0.02, -0.001, 0.04))
    assert finding.verdict == "nothing"
    assert finding.headline == "No measurable gain in accuracy on this data"
    assert "which includes zero" in finding.sentences[0]
    assert not any("closes" in sentence for sentence in finding.sentences)


def test_an_interval_that_touches_zero_is_no_gain(metrics: dict) -> None:
    """Zero itself is still possible."""
    assert find(with_interval(metrics, 0.02, 0.0, 0.04)).verdict == "nothing"


def test_a_gain_names_the_share_of_the_gap(metrics: dict) -> None:
    """(0.93 - 0.90) / (0.96 - 0.90) is half of it."""
    for arm, accuracy in (("teacher", 0.96), ("baseline", 0.90), ("student", 0.93)):
        metrics[arm]["accuracy"] = accuracy
    finding = find(with_interval(metrics, 0.03, 0.01, 0.05))
    assert finding.verdict == "gain"
    assert finding.headline == "Distillation raised accuracy by 3.00 points"
    assert "closes 50\N{NO-BREAK SPACE}% of the gap" in finding.sentences[1]


def test_a_gain_over_a_teacher_that_was_behind_names_no_gap(metrics: dict) -> None:
    """There is nothing to close."""
    metrics["teacher"]["accuracy"] = metrics["baseline"]["accuracy"] - 0.01
    assert not any("closes" in sentence for sentence in find(with_interval(metrics, 0.03, 0.01, 0.05)).sentences)


def test_a_loss_is_called_a_loss(metrics: dict) -> None:
    """With the better choice."""
    finding = find(with_interval(metrics, -0.03, -0.05, -0.01))
    assert finding.verdict == "loss"
    assert finding.headline.startswith("Distillation cost 3.00 points")


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(-0.1, -0.05, "better than"), (0.05, 0.1, "worse than"), (-0.1, 0.1, "neither measurably")],
)
def test_less_nll_is_better(metrics: dict, low: float, high: float, words: str) -> None:
    """Its direction is the other way round."""
    metrics["differences"]["student_minus_baseline"]["nll"] = {"difference": (low + high) / 2, "low": low, "high": high}
    assert any(words in sentence for sentence in find(metrics).sentences)


def test_the_limits_are_always_said(metrics: dict) -> None:
    """One seed an arm."""
    assert "each arm was trained once" in find(metrics).sentences[-1]
