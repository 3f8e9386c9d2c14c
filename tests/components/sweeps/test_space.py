"""What may be varied, in which combinations, and what is refused with its reason."""

import pytest

from components.errors import BadInputError, ParamsError
from components.params import Params
from components.sweeps.space import (
    described,
    grid,
    model_values,
    refuse_unfit,
    seeds_of,
    short_name,
    sweep_of,
)
from tests.components.sweeps.conftest import ALPHA, FILE, MODEL, T


def test_a_grid_is_every_combination(swept):
    """Lists as they are, ranges by their step, whole numbers where the parameter is one."""
    params = swept({T: [1, 4], ALPHA: {"low": 0.5, "high": 0.9, "step": 0.2}, "student.train.epochs": [3]})
    epochs = swept({"student.train.epochs": {"low": 2, "high": 6, "step": 2}})

    assert [(values[T], values[ALPHA]) for values in grid(params)] == [
        (1, 0.5), (1, 0.7), (1, 0.9), (4, 0.5), (4, 0.7), (4, 0.9),
    ]  # fmt: skip
    assert grid(epochs) == [{"student.train.epochs": each} for each in (2, 4, 6)]
    assert all(isinstance(values["student.train.epochs"], int) for values in grid(epochs))


def test_seeds_are_no_trials_of_their_own(swept):
    """Counted or listed, they are the students of every trial."""
    assert seeds_of(sweep_of(swept({T: [1, 4]}, seeds=3))) == (0, 1, 2)

    listed = swept({T: [1, 4], "student.seed": [5, 9]})
    assert seeds_of(sweep_of(listed)) == (5, 9)
    assert grid(listed) == [{T: 1}, {T: 4}]


@pytest.mark.parametrize(
    ("space", "why"),
    [
        ({"teacher.seed": [0, 1]}, "teacher.seed: the step teacher reads it"),
        ({"data.revision": ["a", "b"]}, "data.revision: "),
        ({"soft_targets.max_kl": [1e-3, 1e-4]}, "soft_targets.max_kl: the step soft_targets reads it"),
        ({"student.views.seed": [0, 1]}, "student.views.seed: the step soft_targets reads it"),
        ({"gate.floor": [0.1, 0.2]}, "gate.floor: no student learns anything else by it"),
        ({"student.train.checkpoint_seconds": [1, 2]}, "no student learns anything else by it"),
        ({"student.objective.temprature": [1, 2]}, "no such parameter; did you mean 'temperature'"),
        ({T: [1, -2]}, "student.objective.temperature: Input should be greater than 0"),
        ({MODEL: [{"name": "mpl"}, {"name": "mlp"}]}, "Did you mean 'mlp'"),
    ],
)
def test_what_cannot_be_swept(swept, space, why):
    """The name, and why: what the teacher reads, what nobody reads, what does not fit."""
    with pytest.raises(ParamsError) as caught:
        refuse_unfit(swept(space))
    assert why in str(caught.value)


def test_all_problems_of_a_space_are_said_at_once(swept):
    """A teacher-side parameter, one that changes nothing, and a bad value."""
    with pytest.raises(ParamsError) as caught:
        refuse_unfit(swept({"teacher.seed": [0, 1], "gate.floor": [0.1, 0.2], T: [-1, 2], ALPHA: [0.5]}))
    assert len(str(caught.value).splitlines()) == 4


@pytest.mark.parametrize(
    "space",
    [
        {T: [1, 4], ALPHA: [0.5, 0.9]},
        {"student.objective": [{"name": "kd", "alpha": 0.5}, {"name": "dkd"}]},
        {"student.objective": [{"name": "kd"}, {"name": "logit_standardised_kd"}], T: [2, 4]},
        {MODEL: [{"name": "mlp", "hidden": [4]}, {"name": "mlp", "hidden": [8]}]},
        {"student.model.hidden": [[4], [8]], "student.seed": [0, 1]},
        {T: [2, [[0, 8], [1, 1]]]},
    ],
)
def test_what_can_be_swept(swept, space):
    """T, alpha, schedules, methods as whole sections and what is inside them, sizes, seeds."""
    refuse_unfit(swept(space))


def test_latency_needs_models_that_are_known_before(swept):
    """It is measured while nothing else runs."""
    params = swept(
        {"student.model.dropout": {"low": 0, "high": 0.5}},
        sampler="tpe",
        trials=3,
        objectives=["accuracy", "latency_p50_ms"],
    )
    with pytest.raises(ParamsError, match="list the models"):
        refuse_unfit(params)


def test_models_of_a_space(swept):
    """Listed ones by their values, the file's own as one without values, none for a range."""
    models = [{"name": "mlp", "hidden": [4]}, {"name": "mlp", "hidden": [8]}]

    assert model_values(swept({MODEL: models, T: [1, 2]})) == [{MODEL: each} for each in models]
    assert model_values(swept({T: [1, 2]})) == [{}]
    dropout = {"student.model.dropout": {"low": 0, "high": 0.5, "step": 0.1}}
    assert model_values(swept(dropout)) == []


def test_a_file_without_a_sweep_is_told_what_to_add():
    """With an example."""
    with pytest.raises(BadInputError, match="no section sweep; add one such as"):
        sweep_of(Params.model_validate(FILE))


def test_values_in_words():
    """Short names where they say enough."""
    assert short_name("student.train.optimizer.learning_rate") == "learning_rate"
    assert short_name("student.seed") == "seed"
    assert described({T: 4, MODEL: {"name": "mlp", "hidden": [8]}}) == "temperature 4, model mlp (hidden [8])"
