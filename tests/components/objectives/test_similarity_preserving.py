"""Facts about preserved similarities."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.contracts import ModelTaps
from components.errors import BadInputError
from components.objectives.similarity_preserving import Params
from tests.components.objectives.given import TEACHER, spec
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

NAME = "similarity_preserving"


def literally(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Squared Frobenius distance of the row-normalised Gram matrices, over the square of the batch."""
    grams = []
    for features in (ours, theirs):
        rows = [row.ravel() for row in features]
        gram = np.array([[float(a @ b) for b in rows] for a in rows])
        grams.append(np.array([row / math.sqrt((row**2).sum()) for row in gram]))
    return float(((grams[0] - grams[1]) ** 2).sum()) / len(ours) ** 2


def test_agrees_with_two_reference_implementations() -> None:
    """On the maps of seed 0 it is 0.00124597, as in RepDistiller and mdistiller."""
    ours, theirs = reference().student_maps, reference().teacher_maps
    found = losses(NAME, ours, theirs).mean().item()

    assert found == pytest.approx(0.00124597, rel=1e-5)
    assert found == pytest.approx(literally(ours.double().numpy(), theirs.double().numpy()), rel=1e-5)


def test_two_samples_by_hand() -> None:
    """Alike to the student and strangers to the teacher: (4 - 2 sqrt 2) over 2^2; over 2 alone it would be twice that."""
    alike, strangers = torch.ones(2, 1), torch.eye(2)

    assert losses(NAME, alike, strangers).mean().item() == pytest.approx(1 - math.sqrt(0.5))


@given(seed=st.integers(0, 2**32), factor=st.floats(0.01, 100))
def test_a_rotation_and_a_scale_mean_nothing(seed: int, factor: float) -> None:
    """Of either side; only inner products count, and only their ratios."""
    ours, theirs = drawn(seed, 6, 4), drawn(seed + 1, 6, 5)
    turned = rotated(ours, seed) * factor

    torch.testing.assert_close(losses(NAME, turned, rotated(theirs, seed)), losses(NAME, ours, theirs))
    torch.testing.assert_close(losses(NAME, turned, ours), torch.zeros(6, dtype=torch.float64))


@given(seed=st.integers(0, 2**32))
def test_order_of_samples_means_nothing(seed: int) -> None:
    """Permuted rows give permuted losses."""
    ours, theirs = drawn(seed, 6, 4), drawn(seed + 1, 6, 5)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))

    torch.testing.assert_close(losses(NAME, ours[order], theirs[order]), losses(NAME, ours, theirs)[order])


def test_least_where_equal() -> None:
    """No loss and no gradient."""
    features = drawn(0, 5, 3, 2, 2)

    assert losses(NAME, features, features.clone()).tolist() == [0.0] * 5
    assert gradient(NAME, features, features.clone()).abs().max() == 0


def test_gradient() -> None:
    """Autograd agrees with finite differences."""
    ours, theirs = drawn(1, 4, 3), drawn(2, 4, 2, 2, 2)
    objective = made(NAME, ours, theirs)

    assert passes_gradcheck(lambda features: called(objective, features, theirs), ours)


def test_the_last_common_stage_unless_told() -> None:
    """Any shape goes with any other."""
    assert Params().build(spec()).student_taps == ("stage2",)
    mixed = Params(student_tap="embedding", teacher_tap="stage1").build(spec())
    assert (mixed.student_taps, mixed.teacher_taps) == (("embedding",), ("stage1",))
    assert mixed.reduction == "batch"


def test_what_is_not_there_is_refused() -> None:
    """A tap point, or stages of one name."""
    with pytest.raises(BadInputError, match="the teacher has no tap point 'head'"):
        Params(teacher_tap="head").build(spec())
    with pytest.raises(BadInputError, match="no stage of one name"):
        Params().build(spec(student=ModelTaps(("embedding",), {"embedding": (4,)}), teacher=TEACHER))
