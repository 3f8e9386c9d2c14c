"""Facts about relations among samples."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from components.errors import BadInputError
from components.objectives import _relational
from components.objectives._relational import differences, directions, distances
from components.objectives.rkd import Params
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


def huber(difference: float) -> float:
    return difference**2 / 2 if abs(difference) < 1 else abs(difference) - 0.5


def relations(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances in units of the mean of those above 0, and cosines of all angles, number by number."""
    n = len(rows)
    apart = np.array([[math.sqrt(((a - b) ** 2).sum()) for b in rows] for a in rows])
    units = np.array([[(b - a) / max(math.sqrt(((b - a) ** 2).sum()), 1e-12) for b in rows] for a in rows])
    angles = np.array([[[units[i, j] @ units[i, k] for k in range(n)] for j in range(n)] for i in range(n)])
    return apart / apart[apart > 0].mean(), angles


def literally(ours: np.ndarray, theirs: np.ndarray) -> float:
    (d, a), (teacher_d, teacher_a) = relations(ours), relations(theirs)
    distance = [huber(x) for x in (d - teacher_d).ravel()]
    angle = [huber(x) for x in (a - teacher_a).ravel()]
    return 25 * sum(distance) / len(distance) + 50 * sum(angle) / len(angle)


def test_agrees_with_two_reference_implementations() -> None:
    """On the embeddings of seed 0 it is 0.634637 with the weights 25 and 50, as in RepDistiller and mdistiller."""
    ours, theirs = reference().student_embeddings, reference().teacher_embeddings
    found = losses("rkd", ours, theirs).mean().item()

    assert found == pytest.approx(0.634637, rel=1e-5)
    assert found == pytest.approx(literally(ours.double().numpy(), theirs.double().numpy()), rel=1e-5)


def test_unit_is_the_mean_of_pairs_of_two() -> None:
    """The distance of a sample from itself does not count: the mean off the diagonal is 1, not 1.5."""
    found = distances(differences(drawn(0, 3, 4)))

    assert found.diagonal().tolist() == [0.0] * 3
    assert found.sum().item() / 6 == pytest.approx(1.0)


def test_equal_samples_are_a_pair_too() -> None:
    """1e-6 apart (the root of 1e-12) and counted in the mean: 0, 0 and 1 on a line have the mean distance 2/3."""
    found = distances(differences(torch.tensor([[0.0], [0.0], [1.0]], dtype=torch.float64)))

    assert found[0, 2].item() == pytest.approx(1.5, rel=1e-5)
    assert found[0, 1].item() == pytest.approx(1.5e-6, rel=1e-5)


def test_losses_are_a_mean_over_all_pairs_with_the_diagonal() -> None:
    """As smooth_l1_loss of whole matrices: off the diagonal alone it would be 4/3 of that for four samples."""
    ours, theirs = drawn(1, 4, 3), drawn(2, 4, 3)
    apart = distances(differences(ours)) - distances(differences(theirs))
    pairs = [huber(x) for x in apart.flatten().tolist()]

    found = losses("rkd", ours, theirs, angle_weight=0, distance_weight=1).mean().item()
    assert found == pytest.approx(sum(pairs) / 16)


def test_a_right_angle_by_hand() -> None:
    """At the corner of a right triangle with equal sides the cosine is 0, at the two others half the root of 2."""
    units = directions(differences(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])))
    found = units @ units.mT

    assert found[0, 1, 2].item() == pytest.approx(0, abs=1e-6)
    assert found[1, 0, 2].item() == pytest.approx(math.sqrt(0.5))
    assert found[1, 0, 0].item() == pytest.approx(1)
    assert found[1, 1, 0].item() == 0


@given(seed=st.integers(0, 2**32), factor=st.floats(0.01, 100))
def test_moved_turned_and_scaled_it_is_the_same(seed: int, factor: float) -> None:
    """Distances are relative to their mean, angles have no place: of either side."""
    ours, theirs = drawn(seed, 5, 4), drawn(seed + 1, 5, 3)
    moved = rotated(ours, seed) * factor + 3

    torch.testing.assert_close(losses("rkd", moved, theirs), losses("rkd", ours, theirs), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(losses("rkd", moved, ours), torch.zeros(5, dtype=torch.float64), rtol=0, atol=1e-9)


@given(seed=st.integers(0, 2**32))
def test_order_of_samples_means_nothing(seed: int) -> None:
    """Permuted rows give permuted losses."""
    ours, theirs = drawn(seed, 6, 4), drawn(seed + 1, 6, 5)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))

    torch.testing.assert_close(losses("rkd", ours[order], theirs[order]), losses("rkd", ours, theirs)[order])


def test_least_where_equal() -> None:
    """No loss and no gradient."""
    features = drawn(0, 5, 3)

    assert losses("rkd", features, features.clone()).tolist() == [0.0] * 5
    assert gradient("rkd", features, features.clone()).abs().max() == 0


def test_gradient() -> None:
    """Autograd agrees with finite differences, for both parts."""
    ours, theirs = drawn(3, 4, 3), drawn(4, 4, 2)
    objective = made("rkd", ours, theirs)

    assert passes_gradcheck(lambda features: called(objective, features, theirs), ours)


def test_angles_made_a_few_rows_at_a_time_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses and gradient of one row at a time, of three (the last block shorter), and of all."""
    ours, theirs = drawn(9, 7, 3), drawn(10, 7, 4)
    expected = losses("rkd", ours, theirs), gradient("rkd", ours, theirs)
    for at_once in (1, 3 * 49):
        monkeypatch.setattr(_relational, "NUMBERS_AT_ONCE", at_once)

        torch.testing.assert_close(losses("rkd", ours, theirs), expected[0])
        torch.testing.assert_close(gradient("rkd", ours, theirs), expected[1])


def test_equal_samples_do_not_explode() -> None:
    """Two equal rows where the teacher has different ones: a division by a bounded length would give 1e12."""
    ours = drawn(5, 5, 3).float()
    ours[1] = ours[0]

    assert gradient("rkd", ours, drawn(6, 5, 4).float()).abs().max() < 100


def test_parts_have_weights_of_their_own() -> None:
    """And both 0 is refused at load."""
    ours, theirs = drawn(7, 5, 3), drawn(8, 5, 4)
    distance = losses("rkd", ours, theirs, distance_weight=1, angle_weight=0)
    angle = losses("rkd", ours, theirs, distance_weight=0, angle_weight=1)

    torch.testing.assert_close(losses("rkd", ours, theirs), 25 * distance + 50 * angle)
    with pytest.raises(ValidationError, match="both 0"):
        Params(distance_weight=0, angle_weight=0)


def test_the_embeddings_unless_told() -> None:
    """Maps are taken flat; what is not there is refused."""
    assert Params().build(spec()).student_taps == ("embedding",)
    assert Params(teacher_tap="stage2").build(spec()).teacher_taps == ("stage2",)
    with pytest.raises(BadInputError, match=r"the student has no tap point 'embeddings'.*Did you mean 'embedding'"):
        Params(student_tap="embeddings").build(spec())
