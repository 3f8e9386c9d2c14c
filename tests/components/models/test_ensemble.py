"""How the answers of several teachers become one row of logits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from components.models._ensemble import Ensemble, fit_weights

COMBINATIONS = ("probabilities", "logits", "weighted", "confidence")


class Says(nn.Module):
    """The same logits whatever it is asked."""

    def __init__(self, logits: list[list[float]]) -> None:
        super().__init__()
        self.register_buffer("logits", torch.tensor(logits))

    def forward(self, samples: Tensor) -> Tensor:
        return self.logits[: len(samples)]


def ensemble(combine: str, *said: list[list[float]], weights: list[float] | None = None) -> Tensor:
    return Ensemble([Says(each) for each in said], combine, weights)(torch.zeros(len(said[0]), 1, dtype=torch.uint8))


def test_mean_probabilities_by_hand() -> None:
    """log of the mean of (3/4, 1/4) and (1/4, 3/4), and of (3/4, 1/4) and (1/2, 1/2)."""
    log3 = math.log(3)
    found = ensemble("probabilities", [[log3, 0], [log3 + 5, 5]], [[0, log3], [2, 2]])

    assert found.exp().tolist() == [pytest.approx([0.5, 0.5]), pytest.approx([0.625, 0.375])]


def test_mean_logits_are_something_else() -> None:
    """Also of numbers, where it is the mean."""
    assert ensemble("logits", [[4.0, 0.0]], [[0.0, 2.0]]).tolist() == [[2.0, 1.0]]


def test_weights_count() -> None:
    found = ensemble("weighted", [[math.log(3), 0]], [[0, math.log(3)]], weights=[0.75, 0.25])

    assert found.exp().tolist() == [pytest.approx([0.625, 0.375])]


def test_confidence_weighs_each_sample_by_entropy() -> None:
    """w = exp(-H) / sum exp(-H): of an all but certain member (H = 0) and one of two equal classes (H = log 2), 2 to 1."""
    found = ensemble("confidence", [[40.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 40.0]])

    assert found.exp().tolist() == [pytest.approx([5 / 6, 1 / 6]), pytest.approx([1 / 6, 5 / 6])]


@pytest.mark.parametrize("combine", COMBINATIONS)
def test_equal_members_are_one_teacher(combine: str) -> None:
    """Up to a constant of the row, which no softmax sees."""
    row = [[1.0, -2.0, 0.5]]
    found = ensemble(combine, row, row, row)

    torch.testing.assert_close(found.softmax(1), torch.tensor(row).softmax(1))


@pytest.mark.parametrize("combine", ["probabilities", "weighted", "confidence"])
@given(st.lists(st.lists(st.floats(-80, 80), min_size=3, max_size=3), min_size=2, max_size=4))
def test_probabilities_make_valid_rows(combine: str, said: list[list[float]]) -> None:
    """Finite log-probabilities that sum to 1, however sure the members are."""
    found = ensemble(combine, *([row] for row in said))

    assert found.isfinite().all()
    assert found.double().exp().sum() == pytest.approx(1, abs=1e-5)


def test_fitted_weights_find_the_mixture_that_made_the_labels() -> None:
    """Labels drawn from 0.7 of one member and 0.3 of another; a third, which is always wrong, gets nothing."""
    draw = np.random.default_rng(0)
    first, second = draw.dirichlet(np.ones(3) / 2, 20_000), draw.dirichlet(np.ones(3) / 2, 20_000)
    mixed = 0.7 * first + 0.3 * second
    labels = (mixed.cumsum(1) < draw.random((20_000, 1))).sum(1)
    wrong = np.where(np.arange(3) == labels[:, None], 1e-3, 0.4995)
    weights = fit_weights(np.log(np.stack([p[np.arange(20_000), labels] for p in (first, second, wrong)]) + 1e-12))

    assert weights == [pytest.approx(0.7, abs=0.03), pytest.approx(0.3, abs=0.03), pytest.approx(0, abs=0.01)]
    assert sum(weights) == pytest.approx(1)


def test_no_weights_fit_better() -> None:
    """On the samples that they were fitted on, against a grid."""
    log_p = np.log(np.random.default_rng(1).uniform(0.01, 1, (2, 50)))

    def loss(weight: float) -> float:
        return float(-np.log(weight * np.exp(log_p[0]) + (1 - weight) * np.exp(log_p[1])).mean())

    assert loss(fit_weights(log_p)[0]) <= min(loss(weight) for weight in np.linspace(0, 1, 101)) + 1e-6
