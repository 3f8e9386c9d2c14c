"""Facts about the squared error of logits."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import mse_loss

from components.contracts import Signals
from tests.components.objectives.given import batch, built, reference, signals


def test_is_the_mean_over_classes_of_the_squared_difference() -> None:
    """torch's own mse_loss on the tensors of seed 0; a sum over classes would be a hundred times as much."""
    student, teacher, rows = reference()

    assert built("mse_logits")(student, teacher, rows).mean().item() == pytest.approx(
        mse_loss(student.logits, teacher.logits).item(), rel=1e-5
    )


def test_by_hand() -> None:
    """Differences 1, 2, 6: (1 + 4 + 36) / 3; centred they are -2, -1, 3: (4 + 1 + 9) / 3."""
    student, teacher = Signals(torch.tensor([[1.0, 2.0, 6.0]])), Signals(torch.zeros(1, 3))

    assert built("mse_logits")(student, teacher, batch(1)).item() == pytest.approx(41 / 3)
    assert built("mse_logits", centre=True)(student, teacher, batch(1)).item() == pytest.approx(14 / 3)


def test_centred_it_is_twice_what_kd_becomes_at_a_high_temperature() -> None:
    """T^2 KL tends to half the mean squared difference of centred logits (Hinton et al. 2015, equation 4)."""
    student, teacher = signals(0, 6, dtype=torch.float64)

    torch.testing.assert_close(
        built("mse_logits", centre=True)(student, teacher, batch(6)),
        2 * built("kd", temperature=1e5)(student, teacher, batch(6)),
        rtol=1e-3,
        atol=1e-3,
    )


@given(seed=st.integers(0, 2**32), shift=st.floats(1, 50))
def test_a_constant_counts_unless_rows_are_centred(seed: int, shift: float) -> None:
    """Its square is added to every row that equals the teacher but for it."""
    _, teacher = signals(seed, 5, dtype=torch.float64)
    moved = Signals(teacher.logits + shift)

    torch.testing.assert_close(
        built("mse_logits")(moved, teacher, batch(5)), torch.full((5,), shift**2, dtype=torch.float64)
    )
    assert built("mse_logits", centre=True)(moved, teacher, batch(5)).max() < 1e-12


def test_least_where_student_equals_teacher() -> None:
    """Zero there, exactly."""
    _, teacher = signals(1, 5)

    assert built("mse_logits")(teacher, teacher, batch(5)).tolist() == [0.0] * 5
