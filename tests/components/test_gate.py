"""The gate's decision, bound by bound."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import BadInputError
from components.gate import Decision, Evidence, decide
from components.params import GateParams

DIRECTIONS = {"accuracy": "higher", "nll": "lower"}
SAME = "a" * 64


def evidence(model: str = "new", holdout: str = SAME, **metrics: float) -> Evidence:
    return Evidence(model, holdout, metrics or {"accuracy": 0.96, "nll": 0.1})


def gate(**chosen: object) -> GateParams:
    return GateParams(**{"metric": "accuracy", "floor": 0.9, "margin": 0.01, **chosen})


def broken(decision: Decision) -> list[str]:
    return [reason.bound for reason in decision.broken]


def test_the_first_model_needs_only_the_floor():
    """Without a champion the absolute bounds decide, and a line says that there is none."""
    decision = decide(evidence(), None, gate(), DIRECTIONS)
    assert decision.outcome == "promote"
    assert [reason.bound for reason in decision.reasons] == ["finite metrics", "floor", "champion"]
    assert "no champion yet" in decision.reasons[-1].text


def test_below_the_floor_is_refused_with_what_would_have_been_enough():
    """A broken floor names the value and the bound."""
    decision = decide(evidence(accuracy=0.85), None, gate(), DIRECTIONS)
    assert decision.outcome == "refuse"
    (reason,) = decision.broken
    assert (reason.bound, reason.value, reason.limit) == ("floor", 0.85, 0.9)
    assert "at least 0.9 (the floor) would have been enough" in reason.text
    assert reason.text in decision.summary()


@pytest.mark.parametrize(
    ("champion", "margin", "candidate", "outcome"),
    [
        (0.97, 0.01, 0.97, "promote"),
        (0.97, 0.01, 0.96, "promote"),
        (0.52, 0.05, 0.47, "promote"),  # in binary, 0.52 - 0.05 is a little more than 0.47
        (0.97, 0.01, 0.9599, "refuse"),
        (0.97, 0.0, 0.9699, "refuse"),
        (0.91, 0.03, 0.93, "promote"),
    ],
)
def test_the_champion_is_met_within_the_margin(champion, margin, candidate, outcome):
    """Exactly the margin is enough, a hair more is not."""
    decision = decide(
        evidence(accuracy=candidate), evidence("old", accuracy=champion), gate(margin=margin, floor=0.1), DIRECTIONS
    )
    assert decision.outcome == outcome
    assert broken(decision) == ([] if outcome == "promote" else ["champion"])


def test_lower_is_better_turns_every_comparison_round():
    """For a loss the floor is a ceiling and the margin is added."""
    rule = gate(metric="nll", floor=0.5, margin=0.05)
    good = decide(evidence(nll=0.24), evidence("old", nll=0.2), rule, DIRECTIONS)
    assert good.outcome == "promote"
    bad = decide(evidence(nll=0.6), evidence("old", nll=0.2), rule, DIRECTIONS)
    assert broken(bad) == ["floor", "champion"]
    assert "at most 0.25 (the champion's 0.2 plus the margin 0.05)" in bad.broken[1].text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("metric", ["accuracy", "nll"])
def test_nothing_that_is_not_finite_is_ever_promoted(metric, value):
    """NaN and infinity are refused by name, also in a metric that the gate does not weigh."""
    metrics = {"accuracy": 0.99, "nll": 0.1, metric: value}
    for champion in (None, evidence("old")):
        decision = decide(evidence(**metrics), champion, gate(metric=metric, floor=-9.0), DIRECTIONS)
        assert decision.outcome == "refuse"
        assert f"{metric} is {value}" in decision.broken[0].text


def test_a_champion_without_a_finite_value_refuses():
    """A champion that cannot be compared is not beaten."""
    for metrics in ({"accuracy": math.nan}, {"nll": 0.1}):
        decision = decide(evidence(), evidence("old", **metrics), gate(), DIRECTIONS)
        assert broken(decision) == ["champion"]


def test_another_holdout_is_refused():
    """Metrics on other samples are no comparison, however good."""
    decision = decide(evidence(accuracy=1.0), evidence("old", "b" * 64, accuracy=0.5), gate(), DIRECTIONS)
    assert decision.outcome == "refuse"
    assert broken(decision) == ["same holdout"]
    assert "champion" not in [reason.bound for reason in decision.reasons], "nothing was compared"
    assert "aaaaaaaaaaaa" in decision.broken[0].text
    assert "bbbbbbbbbbbb" in decision.broken[0].text


def test_the_champion_itself_is_no_candidate():
    """The candidate that already is champion moves nothing, even where its holdout or floor changed since."""
    decision = decide(evidence("one", accuracy=0.1), evidence("one", "b" * 64), gate(), DIRECTIONS)
    assert decision.outcome == "already_champion"
    assert "already" in decision.summary()


def test_a_metric_that_nobody_measured_is_bad_input():
    """The message says which metrics there are."""
    with pytest.raises(BadInputError, match=r"'f1' is not measured.*accuracy, nll"):
        decide(evidence(), None, gate(metric="f1"), DIRECTIONS)
    with pytest.raises(BadInputError, match="not known to the workload"):
        decide(evidence(), None, gate(), {"nll": "lower"})


values = st.floats(allow_nan=True, allow_infinity=True, width=32)


@given(values, values, st.floats(-1e6, 1e6), st.floats(0, 1e6), st.sampled_from(["accuracy", "nll"]))
def test_decisions_survive_strict_json_and_promote_only_without_broken_bounds(
    candidate, champion, floor, margin, metric
):
    """Any decision is the same after a round trip, holds no NaN, and promotes exactly when nothing is broken."""
    rule = gate(metric=metric, floor=floor, margin=margin)
    decision = decide(evidence(**{metric: candidate}), evidence("old", **{metric: champion}), rule, DIRECTIONS)
    text = json.dumps(decision.to_json(), allow_nan=False)
    assert Decision.from_json(json.loads(text)) == decision
    assert (decision.outcome == "promote") == (not decision.broken)
    assert len(decision.rows()) == len(decision.reasons)


def test_rows_are_plain_text():
    """A table has a row a bound, with verdict and numbers as text."""
    rows = decide(evidence(), None, gate(), DIRECTIONS).rows()
    assert rows[1]["bound"] == "floor"
    assert (rows[1]["verdict"], rows[1]["value"], rows[1]["limit"]) == ("kept", "0.96", "0.9")
