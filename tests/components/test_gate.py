"""The gate's decision, bound by bound."""

import json
import math
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from components.contracts import Evidence, Measure, Reason
from components.errors import BadInputError
from components.gate import Decision, decide
from components.params import GateParams

SAME = "a" * 64
N = 1000


class Workload:
    """What the gate reads of one."""

    measures: ClassVar = {
        "accuracy": Measure("accuracy", "higher", "share", of_rows="share"),
        "nll": Measure("NLL", "lower", "nats", of_rows="mean"),
        "rmse": Measure("RMSE", "lower", "", of_rows="root_mean"),
        "ece": Measure("ECE", "lower", "share"),
    }
    fidelity_measures: ClassVar = {"agreement_with_teacher": Measure("agreement", "higher", "share")}


def right(share: float, *, shift: int = 0, rows: int = N) -> np.ndarray:
    """[N] of which *share* are 1, the wrong ones beginning at row *shift*."""
    scores = np.ones(rows)
    scores[(shift + np.arange(round((1 - share) * rows))) % rows] = 0
    return scores


def evidence(model: str = "new", accuracy: float = 0.96, *, shift: int = 0, **given: Any) -> Evidence:
    rows = given.pop("rows", right(accuracy, shift=shift))
    holdout = given.pop("holdout", SAME)
    metrics = {"accuracy": accuracy, "nll": 0.1, "ece": 0.02, **given.pop("metrics", {})}
    return Evidence(model, holdout, metrics, rows, **given)


def gate(**chosen: Any) -> GateParams:
    return GateParams.model_validate({"floor": 0.9, "margin": 0.02, "candidates_per_holdout": 1, **chosen})


def decided(
    candidate: Evidence, champion: Evidence | None = None, teacher: Evidence | None = None, **chosen: Any
) -> Decision:
    look = chosen.pop("look", 1)
    return decide(candidate, champion, teacher, gate(**chosen), Workload(), look=look)  # type: ignore[arg-type]


def broken(decision: Decision) -> list[str]:
    return [reason.bound for reason in decision.broken]


def test_the_first_model_needs_only_the_absolute_bounds() -> None:
    """Without a champion they decide, and a line says that there is none."""
    decision = decided(evidence())

    assert decision.outcome == "promote"
    assert [reason.bound for reason in decision.reasons] == ["finite metrics", "floor", "holdout size", "champion"]
    assert "no champion yet" in decision.reasons[-1].text


def test_below_the_floor_is_refused_with_what_would_have_been_enough() -> None:
    """A broken floor names the value and the bound."""
    decision = decided(evidence(accuracy=0.85))

    (reason,) = decision.broken
    assert (decision.outcome, reason.bound, reason.value, reason.limit) == ("refuse", "floor", 0.85, 0.9)
    assert "at least 0.9 (the floor) would have been enough" in reason.text
    assert reason.text in decision.summary()


def test_the_floor_of_an_error_is_a_ceiling() -> None:
    """In the metric's own direction, exactly the limit is enough."""
    rows = np.full(N, 4.0)
    good, bad = (evidence(rows=rows, metrics={"rmse": value}) for value in (2.0, 2.001))

    assert decided(good, metric="rmse", floor=2.0).outcome == "promote"
    assert broken(decided(bad, metric="rmse", floor=2.0)) == ["floor"]


@pytest.mark.parametrize(
    ("candidate", "champion", "outcome"),
    [
        (evidence(accuracy=0.96), evidence("old", 0.96, shift=500), "promote"),  # 40 and 40 rows apart, of 1,000
        (evidence(accuracy=0.96), evidence("old", 0.96, shift=0), "promote"),
        (evidence(accuracy=0.94), evidence("old", 0.96, shift=500), "refuse"),  # two points less, and a margin of two
        (evidence(accuracy=0.99), evidence("old", 0.96, shift=500), "promote"),
    ],
)
def test_not_worse_than_the_champion(candidate: Evidence, champion: Evidence, outcome: str) -> None:
    """By a test on the same rows: the point value alone is not enough."""
    decision = decided(candidate, champion)

    assert decision.outcome == outcome
    assert broken(decision) == ([] if outcome == "promote" else ["champion"])


def test_superiority_asks_for_more() -> None:
    """An equal one is refused, a clearly better one passes."""
    champion = evidence("old", 0.96, shift=500)

    assert broken(decided(evidence(accuracy=0.96), champion, against_champion="superiority")) == ["champion"]
    assert decided(evidence(accuracy=0.99), champion, against_champion="superiority").outcome == "promote"


def test_a_refusal_says_what_would_have_been_enough() -> None:
    """The difference, how sure it is, the difference and the number of rows that would do, and the power of the holdout."""
    text = decided(evidence(accuracy=0.95), evidence("old", 0.96, shift=500)).broken[0].text

    assert "at most 2.00 points worse than the champion's 96.00 % on the same 1,000 rows" in text
    assert "the difference is -1.00 points, at least -2." in text
    assert "would have been enough, or the same difference on about" in text
    assert "finds differences of 2." in text


@pytest.mark.parametrize("worse", [0.0, 0.3])
def test_an_error_is_tested_row_by_row(worse: float) -> None:
    """The margin is in the metric's own unit, here the root of the mean of squares."""
    draw = np.random.default_rng(0)
    theirs = draw.normal(0, 2, N) ** 2
    ours = (np.sqrt(theirs) + worse) ** 2
    candidate, champion = (
        evidence(name, rows=rows, metrics={"rmse": math.sqrt(rows.mean())})
        for name, rows in (("new", ours), ("old", theirs))
    )

    assert decided(candidate, champion, metric="rmse", floor=9, margin=0.5).outcome == "promote"
    assert (decided(candidate, champion, metric="rmse", floor=9, margin=0.1).outcome == "promote") == (worse == 0)


def test_a_holdout_wears_out() -> None:
    """Alpha is shared among the candidates that it may judge; after the last a fresh one is due."""
    candidate, champion = evidence(accuracy=0.99), evidence("old", 0.96, shift=500)
    found = decided(candidate, champion, candidates_per_holdout=5, look=5)
    late = decided(candidate, champion, candidates_per_holdout=5, look=6)

    assert found.outcome == "promote"
    assert next(reason.limit for reason in found.reasons if reason.bound == "champion") == pytest.approx(0.01)
    assert broken(late) == ["fresh holdout"]
    assert "candidate 6 of 5" in late.broken[0].text
    assert "a fresh holdout is due" in late.broken[0].text


def test_a_holdout_may_be_too_small() -> None:
    """Said aloud, whatever the values."""
    assert broken(decided(evidence(rows=right(1.0, rows=20), accuracy=1.0), min_rows=30)) == ["holdout size"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("metric", ["accuracy", "nll", "ece"])
def test_nothing_that_is_not_finite_is_ever_promoted(metric: str, value: float) -> None:
    """NaN and infinity are refused by name, also in a metric that the gate does not weigh."""
    for champion in (None, evidence("old")):
        decision = decided(evidence(metrics={metric: value}), champion, floor=-9.0)
        assert decision.outcome == "refuse"
        assert f"{metric} is {value}" in decision.broken[0].text


def test_a_champion_without_a_finite_value_refuses() -> None:
    """One that cannot be compared is not beaten."""
    assert broken(decided(evidence(), evidence("old", metrics={"accuracy": math.nan}))) == ["champion"]


def test_another_holdout_is_refused() -> None:
    """Metrics on other samples are no comparison, however good."""
    decision = decided(evidence(accuracy=1.0), evidence("old", 0.5, holdout="b" * 64))

    assert broken(decision) == ["same holdout"]
    assert "champion" not in [reason.bound for reason in decision.reasons], "nothing was compared"
    assert "aaaaaaaaaaaa" in decision.broken[0].text
    assert "bbbbbbbbbbbb" in decision.broken[0].text


def test_the_champion_itself_is_no_candidate() -> None:
    """The candidate that already is champion moves nothing, even where its holdout or floor changed since."""
    decision = decided(evidence("one", 0.1), evidence("one", holdout="b" * 64))

    assert decision.outcome == "already_champion"
    assert "already" in decision.summary()


def test_a_metric_that_nobody_measured_is_bad_input() -> None:
    """The message says which metrics there are, or which can be tested."""
    with pytest.raises(BadInputError, match=r"'f1' was not measured.*accuracy, ece, nll"):
        decided(evidence(), metric="f1")
    with pytest.raises(BadInputError, match="'ece' has no value for a single row.*accuracy, nll, rmse"):
        decided(evidence(), metric="ece", floor=0)


def test_a_margin_of_nothing_is_no_test() -> None:
    """At load, with the way out."""
    with pytest.raises(ValidationError, match="against_champion: superiority"):
        gate(margin=0)


TESTS: list[tuple[dict[str, Any], dict[str, Any], bool, str]] = [
    ({"name": "bound", "metric": "ece", "limit": 0.05}, {}, True, "at most 0.05 is asked for"),
    ({"name": "bound", "metric": "ece", "limit": 0.01}, {}, False, "at most 0.01 would have been enough"),
    ({"name": "bound", "metric": "nll", "limit": 0.1}, {}, True, "at most 0.1"),
    (
        {"name": "bound", "metric": "agreement_with_teacher", "limit": 0.9},
        {"metrics": {"agreement_with_teacher": 0.8}},
        False,
        "at least 0.9 would have been enough",
    ),
    (
        {"name": "bound", "metric": "num_parameters", "limit": 1e4},
        {"metrics": {"num_parameters": 2e4}},
        False,
        "at most",
    ),
    ({"name": "latency", "p95_ms": 2}, {"latency_ms": {1: {"p50": 1.0, "p95": 1.5}}}, True, "at most 2 ms is allowed"),
    ({"name": "latency", "p95_ms": 1}, {"latency_ms": {1: {"p50": 1.0, "p95": 1.5}}}, False, "would have been enough"),
    ({"name": "latency", "p95_ms": 1}, {}, False, "no latency was measured on this machine"),
    ({"name": "teacher", "margin": 0.05}, {}, True, "teacher"),
    (
        {"name": "teacher", "margin": 0.03},
        {"accuracy": 0.93},
        False,
        "of the teacher's 97.00 %|than the teacher's 97.00 %",
    ),
    (
        {"name": "slices", "limit": 0.9},
        {"groups": {"class": ["a"] * 500 + ["b"] * 500}},
        True,
        "the worst of 2 is a 0.92",
    ),
    (
        {"name": "slices", "limit": 0.95},
        {"groups": {"class": ["a"] * 500 + ["b"] * 490 + ["c"] * 10}},
        False,
        "1 of 2 are not: a 0.92; too small to judge: c",
    ),
    (
        {"name": "slices", "limit": 0.9},
        {"groups": {"class": [str(n) for n in range(N)]}},
        False,
        "no slice has 20 rows",
    ),
    ({"name": "seeds"}, {"siblings": (0.95, 0.94, 0.96)}, True, "an ordinary seed"),
    ({"name": "seeds"}, {"siblings": (0.99, 0.9401, 0.9402)}, False, "luckier than 95%"),
]


@pytest.mark.parametrize(("test", "given", "kept", "text"), TESTS, ids=lambda value: str(value)[:40])
def test_further_bounds(test: dict[str, Any], given: dict[str, Any], kept: bool, text: str) -> None:
    """Each a file: what is kept, what is broken, and what would have been enough."""
    import re

    decision = decided(evidence(**given), None, evidence("teacher", 0.97, shift=300), tests=[test])

    assert (decision.outcome == "promote") == kept, decision.summary()
    assert re.search(text, decision.reasons[-1].text), decision.reasons[-1].text


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ({"name": "bound", "metric": "f1", "limit": 1}, "'f1' was not measured"),
        ({"name": "latency", "p95_ms": 1, "batch_size": 7}, "no latency of batches of 7"),
        ({"name": "slices", "limit": 1, "column": "site"}, "no column 'site'"),
        ({"name": "seeds", "count": 5}, "asks for 5 students, and 0 were looked at"),
        ({"name": "teacher", "margin": 0.1}, "not registered any more"),
    ],
)
def test_a_bound_on_what_is_not_there_is_bad_input(test: dict[str, Any], message: str) -> None:
    """Never a bound that is kept because nobody looked."""
    with pytest.raises(BadInputError, match=message):
        decided(evidence(latency_ms={1: {"p50": 1.0, "p95": 1.0}}), tests=[test])


def test_what_came_before_is_on_the_list() -> None:
    """Data and soft targets, and one that failed refuses."""
    bad = Reason("data validation", kept=False, text="2 failed")
    decision = decide(evidence(), None, None, gate(), Workload(), passed=(bad,))  # type: ignore[arg-type]

    assert broken(decision) == ["data validation"]


def test_a_person_can_refuse_but_not_overrule() -> None:
    """One line more: it turns a promotion into a refusal, never the other way round."""
    no, yes = (Reason("approval", kept=kept, text="ann said so") for kept in (False, True))

    assert decided(evidence()).with_reason(no).outcome == "refuse"
    assert decided(evidence()).with_reason(yes).outcome == "promote"
    assert decided(evidence(accuracy=0.1)).with_reason(yes).outcome == "refuse"


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, N))
def test_a_decision_survives_its_json(ours: float, theirs: float, shift: int) -> None:
    """Equal decisions dump to equal text, and come back as they were."""
    decision = decided(evidence(accuracy=round(ours, 3)), evidence("old", round(theirs, 3), shift=shift))
    text = json.dumps(decision.to_json(), sort_keys=True)

    assert Decision.from_json(json.loads(text)) == decision
    assert len(decision.rows()) == len(decision.reasons)
    assert (decision.outcome == "promote") == (not decision.broken)
