"""Facts about the divergence of standardised logits."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.contracts import ClosedForm, Signals
from tests.components.objectives.given import batch, built, leaves, reference, signals

NAME = "logit_standardised_kd"


def test_agrees_with_its_authors() -> None:
    """0.98281 at T = 2; with the biased deviation, which divides by C, it would be 0.99271."""
    assert built(NAME, temperature=2)(*reference()).mean().item() == pytest.approx(0.98281, rel=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_is_kd_of_logits_standardised_by_hand(temperature: float) -> None:
    """T^2 once, at any T."""
    student, teacher = signals(0, 6, dtype=torch.float64)
    by_hand = [
        Signals((said.logits - said.logits.mean(1, keepdim=True)) / (1e-7 + said.logits.std(1, keepdim=True)))
        for said in (student, teacher)
    ]

    torch.testing.assert_close(
        built(NAME, temperature=temperature)(student, teacher, batch(6)),
        built("kd", temperature=temperature)(*by_hand, batch(6)),
    )


@given(seed=st.integers(0, 2**32), factor=st.floats(0.1, 10), shift=st.floats(-50, 50))
def test_a_constant_and_a_positive_factor_mean_nothing(seed: int, factor: float, shift: float) -> None:
    """On either side."""
    student, teacher = signals(seed, 5, dtype=torch.float64)
    moved = Signals(student.logits * factor + shift), Signals(teacher.logits / factor - shift)
    objective = built(NAME)

    torch.testing.assert_close(objective(*moved, batch(5)), objective(student, teacher, batch(5)), rtol=1e-5, atol=1e-5)


@given(seed=st.integers(0, 2**32), factor=st.floats(0.1, 10))
def test_least_where_student_equals_teacher_up_to_scale(seed: int, factor: float) -> None:
    """Zero there, and nowhere less."""
    student, teacher = signals(seed, 5, dtype=torch.float64)

    assert built(NAME)(Signals(teacher.logits * factor), teacher, batch(5)).abs().max() < 1e-6
    assert (built(NAME)(student, teacher, batch(5)) > 0).all()


def test_a_row_of_equal_logits_is_finite() -> None:
    """Of either side, by both ways to compute it: it has no deviation to divide by."""
    said, _ = signals(1, 3)
    flat = Signals(torch.full((3, 7), 2.0))
    objective = built(NAME)
    assert isinstance(objective, ClosedForm)

    for student, teacher in ((flat, said), (said, flat), (flat, flat)):
        leaf = leaves(student)
        called = objective(leaf, teacher, batch(3))
        called.sum().backward()
        losses, gradient = objective.rows_and_gradient(student, teacher, batch(3))
        assert leaf.logits.grad is not None
        assert all(found.isfinite().all() for found in (called, leaf.logits.grad, losses, gradient))
        torch.testing.assert_close(gradient, leaf.logits.grad)
