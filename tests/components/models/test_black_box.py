"""What a black box says becomes log-probabilities in the order of the data's classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from components.errors import PluginNotFoundError, WeightsError
from components.models._black_box import Convert, Function, Table
from components.sample_ids import sample_ids

SAMPLES = np.arange(20, dtype=np.uint8).reshape(5, 1, 2, 2)
HERE = "tests.components.models.test_black_box"


def convert(**chosen: object) -> Convert:
    given = {"columns": [1, 2, 0], "answers": "probabilities", "smoothing": 0.3, "smallest": 1e-6, "what": "it"}
    return Convert(**{**given, **chosen})


def brightest(samples: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Probabilities by the first value of each sample."""
    p = np.stack([np.full(len(samples), 0.2), (samples[:, 0, 0, 0] + 1) / 40 * scale], axis=1)
    return np.concatenate([p, 1 - p.sum(1, keepdims=True)], axis=1)


def first_only(samples: np.ndarray) -> np.ndarray:
    return brightest(samples)[:1]


def test_probabilities_are_reordered() -> None:
    """Class 0 of the data is the black box's second, and so on."""
    found = convert()(np.array([[0.5, 0.2, 0.3]]))

    assert np.exp(found).tolist() == [pytest.approx([0.2, 0.3, 0.5])]


def test_a_probability_of_nought_is_raised() -> None:
    """To the smallest that was chosen, up to the sum."""
    found = convert(smallest=0.01)(np.array([[0.0, 1.0, 0.0]]))

    assert np.exp(found).tolist() == [pytest.approx([1 / 1.02, 0.01 / 1.02, 0.01 / 1.02])]


def test_labels_become_smoothed_one_hot_rows() -> None:
    """The black box's class 2 is the data's class 1; 0.3 is spread over all three."""
    found = convert(answers="labels")(np.array([2]))

    assert np.exp(found).tolist() == [pytest.approx([0.1, 0.8, 0.1])]


@pytest.mark.parametrize(
    ("answers", "said", "message"),
    [
        ("probabilities", [[0.5, 0.5]], r"it: probabilities must be floats \[N, 3\], not float64 \[1, 2\]"),
        ("probabilities", [[1, 0, 0]], "probabilities must be floats"),
        ("probabilities", [[0.2, 0.3, 0.5], [0.5, 0.6, 0.5]], r"1 of 2 rows are no probabilities.*\(rows 1\)"),
        ("probabilities", [[-0.5, 1.0, 0.5]], "1 of 1 rows are no probabilities"),
        ("probabilities", [[np.nan, 0.5, 0.5]], "1 of 1 rows are no probabilities"),
        ("labels", [0.5], r"labels must be whole numbers \[N\], not float64 \[1\]"),
        ("labels", [3, 0, -1], "labels are outside the 3 classes: 3, -1"),
    ],
)
def test_answers_that_are_none(answers: str, said: list[object], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        convert(answers=answers)(np.array(said))


def test_a_table_finds_samples_by_their_content() -> None:
    """In any order, twice or not at all."""
    ids, said = sample_ids(SAMPLES), np.log(brightest(SAMPLES)).astype(np.float32)
    table = Table(4, 3).fill(ids[:4], said[:4])
    asked = torch.from_numpy(SAMPLES[[3, 0, 0, 2]])

    assert np.array_equal(table(asked).numpy(), said[[3, 0, 0, 2]])
    with pytest.raises(WeightsError, match=rf"nothing about 1 samples \(ids {ids[4].tobytes().hex()}\)"):
        table(torch.from_numpy(SAMPLES[[3, 4]]))


def test_a_function_is_asked_about_the_samples() -> None:
    """With its arguments; its answers are held to what probabilities are."""
    asked = torch.from_numpy(SAMPLES)
    module = Function(f"{HERE}:brightest", {"scale": 0.5}, convert(columns=[0, 1, 2]))

    assert np.allclose(module(asked).exp().numpy(), brightest(SAMPLES, 0.5), atol=1e-5)
    with pytest.raises(WeightsError, match="answered 1 rows to 5 samples"):
        Function(f"{HERE}:first_only", {}, convert())(asked)
    with pytest.raises(PluginNotFoundError, match="has no function 'brigtest'; did you mean 'brightest'"):
        Function(f"{HERE}:brigtest", {}, convert())(asked)
