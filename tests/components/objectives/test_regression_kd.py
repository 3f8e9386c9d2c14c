"""Facts about the distance to a teacher's numbers."""

from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import huber_loss, mse_loss

from components import plugins
from components.contracts import Batch, ClosedForm, ObjectiveParams, Signals
from components.errors import BadInputError
from components.objectives._regression import TowardTeacher
from tests.components.objectives.given import batch, built, leaves, reference, signals

NONE = float("nan")


def numbers(*labels: list[float]) -> Batch:
    """A batch with such labels, NaN where there is none."""
    found, rows = torch.tensor(labels), torch.arange(len(labels))
    return Batch(found, ~found.isnan().any(1), sample_index=rows, place=rows, progress=0.5)


def lost(student: list[list[float]], teacher: list[list[float]], rows: Batch, **params: object) -> list[float]:
    found: Tensor = built("regression_kd", **params)(
        Signals(torch.tensor(student)), Signals(torch.tensor(teacher)), rows
    )
    return found.tolist()


def test_is_torchs_own_loss() -> None:
    """On the tensors of seed 0: the mean squared error, and Huber's with either side of delta in use."""
    student, teacher, rows = reference()
    squared = built("regression_kd")(student, teacher, rows).mean().item()
    cut = built("regression_kd", loss="huber", delta=2.5)(student, teacher, rows).mean().item()

    assert squared == pytest.approx(mse_loss(student.logits, teacher.logits).item(), rel=1e-5)
    assert cut == pytest.approx(huber_loss(student.logits, teacher.logits, delta=2.5).item(), rel=1e-5)


def test_bounded_rows_approach_the_label_while_they_are_worse_than_the_teacher() -> None:
    """Errors 9, 1 and 0.25 against the teacher's 1: with a margin of 0 the first alone counts, with 0.5 the second too."""
    student, teacher, rows = [[3.0], [1.0], [0.5]], [[1.0]] * 3, numbers([0.0], [0.0], [0.0])

    assert lost(student, teacher, rows, teacher_bounded=0) == [9.0, 0.0, 0.0]
    assert lost(student, teacher, rows, teacher_bounded=0.5) == [9.0, 1.0, 0.0]
    assert lost(student, teacher, rows, teacher_bounded=1) == [9.0, 1.0, 0.25]


def test_bounded_rows_without_label_approach_the_teacher() -> None:
    """No row is NaN, and an output without label does not hide the other."""
    rows = numbers([NONE, NONE], [0.0, NONE])

    assert lost([[3.0, 1.0], [3.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]], rows, teacher_bounded=0) == [2.5, 5.0]


def test_unbounded_rows_never_ask_for_a_label() -> None:
    """The distance to the teacher, labelled or not, and whatever the labels are."""
    assert lost([[3.0], [1.0]], [[1.0], [1.0]], numbers([0.0], [NONE])) == [4.0, 0.0]
    assert lost([[3.0], [1.0]], [[1.0], [1.0]], batch(2)) == [4.0, 0.0]


@pytest.mark.parametrize("margin", [None, 0.1])
@pytest.mark.parametrize("loss", ["mse", "huber"])
def test_distances_are_in_deviations_of_the_labels(loss: Literal["mse", "huber"], margin: float | None) -> None:
    """Labels in other units lose the same, by both ways to compute it: a learning rate suits both."""
    generator = torch.Generator().manual_seed(0)
    student, teacher, labels = torch.randn(3, 8, 2, generator=generator, dtype=torch.float64).unbind()
    unit = torch.tensor([100.0, 0.01], dtype=torch.float64)
    small, large = (
        TowardTeacher(loss=loss, delta=0.7, teacher_bounded=margin, target_std=std, alpha=1)
        for std in ((1.0, 1.0), (100.0, 0.01))
    )
    wanted = small.rows_and_gradient(Signals(student), Signals(teacher), numbers(*labels.tolist()))
    leaf = Signals((student * unit).requires_grad_())
    called = large(leaf, Signals(teacher * unit), numbers(*(labels * unit).tolist()))
    called.sum().backward()
    losses, gradient = large.rows_and_gradient(
        Signals(student * unit), Signals(teacher * unit), numbers(*(labels * unit).tolist())
    )

    torch.testing.assert_close((losses, gradient * unit), wanted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close((called.detach(), leaf.logits.grad), (losses, gradient))


def test_learns_numbers_alone_and_so_does_what_it_is_part_of() -> None:
    """With an objective on classes nothing is left that both may learn."""
    both = plugins.params_class("objectives", "combined").model_validate(
        {"name": "combined", "parts": [{"name": "regression_kd"}, {"name": "regression_kd", "loss": "huber"}]}
    )
    mixed = plugins.params_class("objectives", "combined").model_validate(
        {"name": "combined", "parts": [{"name": "regression_kd"}, {"name": "kd"}]}
    )

    assert isinstance(both, ObjectiveParams)
    assert isinstance(mixed, ObjectiveParams)
    assert (both.learns, mixed.learns) == (frozenset({"numbers"}), frozenset())


def test_bounded_classes_are_refused() -> None:
    """A number of a class is no distance."""
    student, teacher = signals(0, 3)
    with pytest.raises(BadInputError, match=r"for each of the 7 outputs as label; these labels are torch.int64 \[3\]"):
        built("regression_kd", teacher_bounded=0.1)(student, teacher, batch(3))


@given(seed=st.integers(0, 2**32), loss=st.sampled_from(["mse", "huber"]), margin=st.none() | st.floats(0, 5))
def test_closed_form_is_autograd(seed: int, loss: str, margin: float | None) -> None:
    """With and without bound, rows without label among them."""
    student, teacher = signals(seed, 8, dtype=torch.float64)
    labels = torch.randn(8, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3
    labels[:2], labels[3, 1] = NONE, NONE
    rows = numbers(*labels.tolist())
    objective = built("regression_kd", loss=loss, delta=2, teacher_bounded=margin)
    assert isinstance(objective, ClosedForm)
    leaf = leaves(student)
    called = objective(leaf, teacher, rows)
    called.sum().backward()
    losses, gradient = objective.rows_and_gradient(student, teacher, rows)

    torch.testing.assert_close(losses, called.detach())
    torch.testing.assert_close(gradient, leaf.logits.grad)
    assert gradient.isfinite().all()


@given(seed=st.integers(0, 2**32), loss=st.sampled_from(["mse", "huber"]), shift=st.floats(-50, 50))
def test_least_where_student_equals_teacher_and_blind_to_where_zero_is(seed: int, loss: str, shift: float) -> None:
    """Zero there, and the same for both sides moved alike."""
    student, teacher = signals(seed, 5, dtype=torch.float64)
    objective = built("regression_kd", loss=loss)

    assert objective(teacher, teacher, batch(5)).tolist() == [0.0] * 5
    torch.testing.assert_close(
        objective(Signals(student.logits + shift), Signals(teacher.logits + shift), batch(5)),
        objective(student, teacher, batch(5)),
    )


def test_params_reject_a_margin_below_zero() -> None:
    """An error at load."""
    with pytest.raises(ValueError, match="teacher_bounded"):
        built("regression_kd", teacher_bounded=-1)
