"""What is trained next, and what becomes of a trial whose students end one way or another."""

import pytest

from components.contracts import NoProgress
from components.errors import StoreError, TrainingDivergedError, TrialPrunedError
from components.params import SEED
from components.settings import Settings
from components.sweeps.search import Search, objective_values
from components.sweeps.study import LOOKS, Study, study_url
from components.sweeps.team import Assignment, Trained
from tests.components.sweeps.conftest import T

SEEDS = (0, 1, 2)


def trained(accuracy: float = 0.9) -> Trained:
    return Trained("key", False, {"accuracy": accuracy}, 100)


@pytest.fixture
def search(swept, tmp_path):
    """A search over two trials of three seeds."""

    def make(*, besides: tuple[Assignment, ...] = (), pruner: str = "none", ends_at: float | None = None) -> Search:
        study = Study(study_url(Settings(var_dir=tmp_path)), "x", swept({T: [1, 4]}, pruner=pruner), ["higher"])
        return Search(
            study=study,
            seeds=SEEDS,
            objectives=lambda _, students: objective_values(["accuracy"], students, lambda: 0.0),
            pruned_by="accuracy" if pruner != "none" else None,
            num_epochs=2 * LOOKS,
            progress=NoProgress(),
            besides=besides,
            ends_at=ends_at,
        )

    return make


def drain(search: Search) -> list[Assignment]:
    found = []
    while assignment := search.next():
        found.append(assignment)
        search.ended(assignment, trained())
    return found


def test_all_students_of_all_trials_after_those_for_comparison(search):
    """Each trial once with every seed, and the study knows what they came to."""
    found = search(besides=(Assignment("baseline", {SEED: 0}),))
    done = drain(found)

    assert done[0].step == "baseline"
    assert sorted((each.values[T], each.values[SEED]) for each in done[1:]) == [
        (t, seed) for t in (1, 4) for seed in SEEDS
    ]
    assert [trial.state for trial in found.study.trials()] == ["complete", "complete"]
    assert (found.num_trained, found.num_found) == (7, 0)


def test_with_a_pruner_seeds_come_one_after_the_other(search):
    """So that what is given up early has cost one student, not three."""
    found = search(pruner="median")
    first, second = found.next(), found.next()
    assert first and second

    assert first.trial != second.trial
    found.ended(first, trained())
    third = found.next()
    assert third and (third.trial, third.values[SEED]) == (first.trial, 1)


@pytest.mark.parametrize(
    ("error", "state"), [(TrainingDivergedError("nan"), "failed"), (TrialPrunedError("worse"), "pruned")]
)
def test_a_trial_ends_with_its_first_student_that_does_not_come_through(search, error, state):
    """Its other students are not begun, those under way change nothing, and the next trial goes on."""
    found = search()
    first, second = found.next(), found.next()
    assert first and second and first.trial == second.trial
    found.ended(first, error)
    found.ended(second, trained())
    rest = drain(found)

    assert {each.trial for each in rest} == {first.trial + 1}
    assert [trial.state for trial in found.study.trials()] == [state, "complete"]


def test_what_is_no_fault_of_its_values_ends_the_sweep(search):
    """A full disk would end the next trial just so; so does a hard-label student that diverges."""
    found = search(besides=(Assignment("baseline", {SEED: 0}),))
    baseline, student = found.next(), found.next()
    assert baseline and student
    with pytest.raises(StoreError):
        found.ended(student, StoreError("full"))
    with pytest.raises(TrainingDivergedError):
        found.ended(baseline, TrainingDivergedError("nan"))


def test_no_trial_begins_after_the_time_is_over(search):
    """Those that have begun come to their end."""
    assert drain(search(ends_at=0.0)) == []


def test_a_student_is_looked_at_so_many_times(search, monkeypatch):
    """At the same shares of its training, however many epochs that has."""
    found = search(pruner="median")
    asked = []
    monkeypatch.setattr(Study, "hopeless", lambda _self, _number, _value, *, step: asked.append(step))
    first = found.next()
    assert first
    for epoch in range(1, 2 * LOOKS + 1):
        found.epoch(first, {"epoch": epoch, "validation_accuracy": 0.5})

    assert asked == list(range(1, LOOKS + 1))
