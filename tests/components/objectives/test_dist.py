"""Facts about the correlations with a teacher."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.contracts import Signals
from tests.components.objectives.given import batch, built, leaves, reference, signals, softened


def test_agrees_with_two_reference_implementations() -> None:
    """The mean of the rows is 1.98271 at T = 1 with weights 1 and 1, as in MMRazor and torchdistill."""
    assert built("dist", beta=1, gamma=1, temperature=1)(*reference()).mean().item() == pytest.approx(1.98271, rel=1e-5)


def test_by_numpy() -> None:
    """Each row is 1 - the correlation of its classes, each column 1 - that of its rows, which all rows share."""
    import numpy as np

    student, teacher = signals(0, 6, dtype=torch.float64)
    ours, theirs = (said.logits.softmax(1).numpy() for said in (student, teacher))
    inter = np.array([1 - np.corrcoef(*pair)[0, 1] for pair in zip(ours, theirs, strict=True)])
    intra = np.mean([1 - np.corrcoef(*pair)[0, 1] for pair in zip(ours.T, theirs.T, strict=True)])
    found = built("dist", beta=3, gamma=5, temperature=1)(student, teacher, batch(6))

    np.testing.assert_allclose(found.numpy(), 3 * inter + 5 * intra, rtol=1e-5)


@pytest.mark.parametrize("temperature", [2.0, 8.0])
def test_t_squared_once(temperature: float) -> None:
    """T^2 times the loss of the logits divided by T."""
    student, teacher, rows = reference()
    at_one = built("dist", temperature=1)(softened(student, temperature), softened(teacher, temperature), rows)

    torch.testing.assert_close(built("dist", temperature=temperature)(student, teacher, rows), temperature**2 * at_one)


@given(seed=st.integers(0, 2**32), shift=st.floats(-50, 50))
def test_least_where_student_equals_teacher_up_to_a_constant(seed: int, shift: float) -> None:
    """Zero there, up to what keeps the division finite, and nowhere less."""
    student, teacher = signals(seed, 9, dtype=torch.float64)
    objective, rows = built("dist"), batch(9)

    assert objective(Signals(teacher.logits / 3 + shift), softened(teacher, 3), rows).abs().max() < 1e-3
    assert (objective(student, teacher, rows) > 0).all()


def test_a_larger_or_smaller_spread_of_probabilities_does_not_matter() -> None:
    """Correlation is blind to it: probabilities halfway to uniform lose nothing, though their divergence is not zero."""
    _, teacher = signals(1, 9, dtype=torch.float64)
    halfway = Signals((teacher.logits.softmax(1) / 2 + 0.5 / 7).log())
    rows = batch(9)

    assert built("dist", temperature=1)(halfway, teacher, rows).abs().max() < 1e-5
    assert (built("kd", temperature=1)(halfway, teacher, rows) > 0.01).all()


def test_columns_span_the_whole_batch() -> None:
    """In two halves it is another loss, so it says that it needs the logical batch."""
    student, teacher, rows = reference()
    objective = built("dist", beta=0)
    whole = objective(student, teacher, rows)
    half = objective(Signals(student.logits[:32]), Signals(teacher.logits[:32]), rows)

    assert objective.reduction == "batch"
    assert not torch.allclose(whole[:32], half, rtol=1e-3)


def test_rows_may_come_in_any_order() -> None:
    """The losses are permuted with them, columns included."""
    student, teacher, rows = reference()
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    objective = built("dist")

    torch.testing.assert_close(
        objective(Signals(student.logits[order]), Signals(teacher.logits[order]), rows),
        objective(student, teacher, rows)[order],
    )


@pytest.mark.parametrize("count", [1, 4])
def test_a_student_that_says_the_same_of_every_row_has_a_finite_gradient(count: int) -> None:
    """Its columns do not vary, nor do those of a batch of one row."""
    _, teacher = signals(2, count)
    student = leaves(Signals(torch.zeros(count, 7)))
    losses = built("dist")(student, teacher, batch(count))
    losses.mean().backward()

    assert losses.isfinite().all()
    assert student.logits.grad is not None
    assert student.logits.grad.isfinite().all()
