"""Facts about the probabilities of neighbours."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.errors import BadInputError
from components.objectives.pkt import Params
from tests.components.objectives.given import spec
from tests.components.objectives.given_features import (
    called,
    drawn,
    gradient,
    losses,
    made,
    passes_gradcheck,
    reference,
    rotated,
)


def literally(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The mean over all pairs of p ln(p / q), p and q the shares of (1 + cosine) / 2 in its row, number by number."""
    shares = []
    for rows in (ours, theirs):
        lengths = [math.sqrt((row**2).sum()) for row in rows]
        kernel = np.array(
            [
                [(1 + a @ b / (x * y)) / 2 for b, y in zip(rows, lengths, strict=True)]
                for a, x in zip(rows, lengths, strict=True)
            ]
        )
        shares.append(np.array([row / row.sum() for row in kernel]))
    q, p = shares
    terms = [p[i, j] * math.log(p[i, j] / q[i, j]) for i in range(len(p)) for j in range(len(p))]
    return sum(terms) / len(terms)


def test_is_the_mean_over_pairs_of_the_divergence() -> None:
    """On the embeddings of seed 0; the small numbers that keep logarithms finite are below the tolerance."""
    ours, theirs = reference().student_embeddings, reference().teacher_embeddings
    found = losses("pkt", ours.double(), theirs.double()).mean().item()

    assert found == pytest.approx(literally(ours.double().numpy(), theirs.double().numpy()), rel=1e-5)
    assert losses("pkt", ours, theirs).mean().item() == pytest.approx(found, rel=1e-5)


def test_two_samples_by_hand() -> None:
    """Cosine -1/2 to the student and 0 to the teacher: q = 4/5, 1/5 and p = 2/3, 1/3; a mean over four pairs."""
    apart = torch.tensor([[1.0, 0.0], [-0.5, math.sqrt(0.75)]], dtype=torch.float64)
    by_hand = (2 / 3 * math.log((2 / 3) / (4 / 5)) + 1 / 3 * math.log((1 / 3) / (1 / 5))) / 2

    assert losses("pkt", apart, torch.eye(2, dtype=torch.float64)).mean().item() == pytest.approx(by_hand, rel=1e-5)


@given(seed=st.integers(0, 2**32), factor=st.floats(0.01, 100))
def test_a_rotation_and_a_scale_of_each_sample_mean_nothing(seed: int, factor: float) -> None:
    """Only directions count."""
    ours, theirs = drawn(seed, 6, 4), drawn(seed + 1, 6, 5)
    scales = torch.linspace(1, factor, 6, dtype=torch.float64).unsqueeze(1)
    turned = rotated(ours, seed) * scales

    torch.testing.assert_close(losses("pkt", turned, theirs), losses("pkt", ours, theirs), rtol=1e-4, atol=1e-8)


@given(seed=st.integers(0, 2**32))
def test_order_of_samples_means_nothing(seed: int) -> None:
    """Permuted rows give permuted losses."""
    ours, theirs = drawn(seed, 6, 4), drawn(seed + 1, 6, 5)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))

    torch.testing.assert_close(losses("pkt", ours[order], theirs[order]), losses("pkt", ours, theirs)[order])


@given(seed=st.integers(0, 2**32))
def test_least_where_equal(seed: int) -> None:
    """A divergence: 0 for equals, of which every row's is no less than for any other student."""
    ours, theirs = drawn(seed, 5, 4), drawn(seed + 1, 5, 4)

    assert losses("pkt", theirs.clone(), theirs).tolist() == [0.0] * 5
    assert losses("pkt", ours, theirs).min() > -1e-7
    assert gradient("pkt", theirs.clone(), theirs).abs().max() < 1e-6


def test_gradient() -> None:
    """Autograd agrees with finite differences."""
    ours, theirs = drawn(1, 4, 3), drawn(2, 4, 2)
    objective = made("pkt", ours, theirs)

    assert passes_gradcheck(lambda features: called(objective, features, theirs), ours)


def test_a_dead_row_has_a_gradient() -> None:
    """The root of a sum of squares has none at 0, and would spread NaN over the student."""
    ours = drawn(3, 5, 4)
    ours[2] = 0

    assert gradient("pkt", ours, drawn(4, 5, 4)).isfinite().all()


def test_the_embeddings_unless_told() -> None:
    """The whole batch is needed; what is not there is refused."""
    built = Params().build(spec())

    assert (built.student_taps, built.teacher_taps, built.reduction) == (("embedding",), ("embedding",), "batch")
    with pytest.raises(BadInputError, match="the teacher has no tap point 'top'"):
        Params(teacher_tap="top").build(spec())
