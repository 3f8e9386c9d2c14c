"""The study remembers trials across processes, and asks for nothing twice."""

import pytest

from components.errors import ServerError
from components.settings import Settings
from components.sweeps.study import COMPARED_TRIALS, LOOKS, Study, Taught, study_url
from tests.components.sweeps.conftest import ALPHA, MODEL, T

TAUGHT = [Taught(0, "k")]


@pytest.fixture
def url(tmp_path) -> str:
    return study_url(Settings(var_dir=tmp_path))


def test_a_grid_is_asked_for_once(swept, url):
    """Values of sections come back as they were given; a second process finds nothing left to try."""
    params = swept({T: [1, 4], MODEL: [{"name": "mlp", "hidden": [4]}, {"name": "mlp", "hidden": [8]}]})
    study, asked = Study(url, "x", params, ["higher"]), []
    while trial := study.ask():
        asked.append(trial.values)
        study.complete(trial.number, [0.5], TAUGHT)

    assert len(asked) == 4
    assert {T: 4, MODEL: {"name": "mlp", "hidden": [8]}} in asked
    again = Study(url, "x", params, ["higher"])
    assert again.ask() is None
    assert [trial.values for trial in again.trials()] == asked
    assert again.trials()[0].students == (Taught(0, "k"),)


def test_what_a_killed_process_was_at_comes_first(swept, url):
    """And what it had finished does not come again."""
    params = swept({T: [1, 2, 4, 8]})
    killed = Study(url, "x", params, ["higher"])
    first, second = killed.ask(), killed.ask()
    assert first and second
    killed.complete(first.number, [0.5], TAUGHT)

    study, asked = Study(url, "x", params, ["higher"]), []
    while trial := study.ask():
        asked.append(trial.values[T])
        study.complete(trial.number, [0.5], TAUGHT)

    assert asked[0] == second.values[T]
    assert sorted(asked) == sorted({1, 2, 4, 8} - {first.values[T]})


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_drawn_values_of_a_killed_process_come_again(swept, url, sampler):
    """The very same ones, since half of their work may be done; then others than those before the kill."""
    params = swept({ALPHA: {"low": 0.1, "high": 1.0}}, sampler=sampler, trials=3)
    killed = Study(url, "x", params, ["higher"])
    first, cut_off = killed.ask(), killed.ask()
    assert first and cut_off
    killed.complete(first.number, [0.5], TAUGHT)

    study = Study(url, "x", params, ["higher"])
    assert [trial.number for trial in study.trials()] == [first.number]
    again, new = study.ask(), study.ask()
    assert again and new
    assert again.values == cut_off.values
    assert new.values not in (first.values, cut_off.values)


def test_a_process_killed_before_it_asked_loses_nothing_of_a_grid(swept, url):
    """What another one had begun is still to be tried."""
    params = swept({T: [1, 2]})
    for _ in range(2):
        assert Study(url, "x", params, ["higher"]).ask()
    Study(url, "x", params, ["higher"])  # opened, and gone

    study, asked = Study(url, "x", params, ["higher"]), []
    while trial := study.ask():
        asked.append(trial.values[T])
    assert sorted(asked) == [1, 2]


def test_drawing_ends_after_so_many_trials_and_goes_on_for_more(swept, url):
    """TPE within the range, whole numbers whole; raising trials extends the study."""
    space = {ALPHA: {"low": 0.1, "high": 1.0}, "student.train.epochs": {"low": 2, "high": 40, "log": True}}
    for trials, new in ((5, 5), (7, 2)):
        study, asked = Study(url, "x", swept(space, sampler="tpe", trials=trials), ["higher"]), []
        while trial := study.ask():
            asked.append(trial.values)
            study.complete(trial.number, [trial.values[ALPHA]], TAUGHT)
        assert len(asked) == new
        assert all(0.1 <= values[ALPHA] <= 1 and isinstance(values["student.train.epochs"], int) for values in asked)


def test_a_trial_that_failed_by_its_values_is_not_tried_again(swept, url):
    """It is told with its reason; one that was pruned likewise."""
    params = swept({T: [1, 2]})
    study = Study(url, "x", params, ["higher"])
    for pruned in (True, False):
        trial = study.ask()
        assert trial
        study.give_up(trial.number, "because", pruned=pruned)

    found = Study(url, "x", params, ["higher"])
    assert found.ask() is None
    assert [(trial.state, trial.reason) for trial in found.trials()] == [("pruned", "because"), ("failed", "because")]


def test_the_median_prunes_what_is_worse_than_half(swept, url):
    """After some trials to compare with, and not in the first looks."""
    study = Study(url, "x", swept({T: [1, 2, 3, 4, 5, 6]}, pruner="median"), ["higher"])
    for _ in range(COMPARED_TRIALS):
        trial = study.ask()
        assert trial
        assert not any(study.hopeless(trial.number, 0.8, step=look) for look in range(1, LOOKS + 1))
        study.complete(trial.number, [0.8], TAUGHT)
    good, bad = study.ask(), study.ask()
    assert good and bad

    assert not study.hopeless(bad.number, 0.1, step=1)
    assert study.hopeless(bad.number, 0.1, step=LOOKS)
    assert not study.hopeless(good.number, 0.9, step=LOOKS)


def test_latencies_are_remembered(swept, url):
    """Trials of two sessions are compared by the same measurement."""
    params = swept({T: [1, 2]})
    Study(url, "x", params, ["higher", "lower"]).remember_latencies({"a": 0.5})

    assert Study(url, "x", params, ["higher", "lower"]).latencies() == {"a": 0.5}


@pytest.mark.parametrize("where", ["nosuchdatabase://host/x", "sqlite:////proc/nowhere/x.db"])
def test_a_database_that_cannot_be_used_is_one_message(swept, where):
    """With the way out."""
    with pytest.raises((ServerError, OSError), match="POTSTILL_STUDY_URL|proc"):
        Study(where, "x", swept({T: [1, 2]}), ["higher"])
