"""Facts about the decoupled divergence."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.contracts import Signals
from tests.components.objectives.given import batch, built, reference, signals, softened


def test_agrees_with_its_authors() -> None:
    """97.18773 at T = 4, weights 1 and 8, as in mdistiller: the mean, not MMRazor's sum of 6220.01."""
    losses = built("dkd", temperature=4, target_weight=1, non_target_weight=8)(*reference())

    assert losses.mean().item() == pytest.approx(97.18773, rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 8.0])
def test_three_classes_by_hand(temperature: float) -> None:
    """Teacher 1/2, 3/8, 1/8 once softened, student undecided: the target's odds are 1 to 1 against 1 to 2, the rest's 3 to 1."""
    teacher = Signals(temperature * torch.tensor([[4.0, 3.0, 1.0]]).log())
    of_target = 0.5 * math.log(0.5 * 3) + 0.5 * math.log(0.5 * 3 / 2)
    of_others = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    found = built("dkd", temperature=temperature, target_weight=3, non_target_weight=5)

    assert found(Signals(torch.zeros(1, 3)), teacher, batch(1)).item() == pytest.approx(
        temperature**2 * (3 * of_target + 5 * of_others), rel=1e-5
    )


@given(seed=st.integers(0, 2**32), shift=st.floats(-1e4, 1e4))
def test_the_others_do_not_see_the_target(seed: int, shift: float) -> None:
    """However large its logit: one hidden behind -1000 would show from there on."""
    student, teacher = signals(seed, 5, dtype=torch.float64)
    objective, rows = built("dkd", temperature=1, target_weight=0, non_target_weight=1), batch(5)
    moved = student.logits.scatter_add(1, rows.labels.unsqueeze(1), torch.full((5, 1), shift, dtype=torch.float64))

    torch.testing.assert_close(objective(Signals(moved), teacher, rows), objective(student, teacher, rows))


@given(seed=st.integers(0, 2**32), temperature=st.floats(0.5, 20))
def test_both_parts_are_kd_when_the_others_weigh_what_the_teacher_leaves_them(seed: int, temperature: float) -> None:
    """KL = TCKD + (1 - p) NCKD, p the teacher's softened probability of the label (Zhao et al. 2022)."""
    student, teacher = signals(seed, 6, dtype=torch.float64)
    rows, t = batch(6), {"temperature": temperature}
    left = 1 - (teacher.logits / temperature).softmax(1).gather(1, rows.labels.unsqueeze(1)).squeeze(1)
    of_target = built("dkd", **t, target_weight=1, non_target_weight=0)(student, teacher, rows)
    of_others = built("dkd", **t, target_weight=0, non_target_weight=1)(student, teacher, rows)

    torch.testing.assert_close(of_target + left * of_others, built("kd", **t)(student, teacher, rows))


def test_rows_without_label_are_plain_kd() -> None:
    """The teacher's first class is not taken for the label, and the weights are not theirs."""
    student, teacher = signals(1, 6, dtype=torch.float64)
    found = built("dkd", temperature=3, target_weight=7, non_target_weight=9)(student, teacher, batch(6, unlabelled=4))
    plain = built("kd", temperature=3)(student, teacher, batch(6))

    torch.testing.assert_close(found[:4], plain[:4])
    assert (found[4:] > 2 * plain[4:]).all()


def test_two_classes_leave_nothing_to_the_others() -> None:
    """Then their weight changes nothing, and the target's part is kd."""
    student, teacher = (Signals(said.logits[:, :2]) for said in signals(2, 6))
    rows = batch(2)
    student, teacher = Signals(student.logits[:2]), Signals(teacher.logits[:2])

    torch.testing.assert_close(
        built("dkd", temperature=2, non_target_weight=8)(student, teacher, rows),
        built("kd", temperature=2)(student, teacher, rows),
    )


@given(seed=st.integers(0, 2**32), shift=st.floats(-50, 50))
def test_least_where_student_equals_teacher_up_to_a_constant(seed: int, shift: float) -> None:
    """Zero there, and nowhere less."""
    student, teacher = signals(seed, 5, dtype=torch.float64)
    objective, rows = built("dkd"), batch(5, unlabelled=1)

    assert objective(Signals(teacher.logits + shift), teacher, rows).abs().max() < 1e-9
    assert (objective(student, teacher, rows) > 0).all()


@pytest.mark.parametrize("temperature", [2.0, 8.0])
def test_t_squared_once(temperature: float) -> None:
    """T^2 times the loss of the logits divided by T."""
    student, teacher, rows = reference()
    at_one = built("dkd", temperature=1)(softened(student, temperature), softened(teacher, temperature), rows)

    torch.testing.assert_close(
        built("dkd", temperature=temperature)(student, teacher, rows), temperature**2 * at_one, rtol=1e-4, atol=1e-4
    )


def test_its_weights_may_follow_a_schedule() -> None:
    """Halfway from 0 to 8 the others weigh 4."""
    student, teacher = signals(3, 6)
    moving, fixed = built("dkd", non_target_weight=[[0, 0], [1, 8]]), built("dkd", non_target_weight=4)

    torch.testing.assert_close(moving(student, teacher, batch(6)), fixed(student, teacher, batch(6)))


def test_params_reject_weights_below_zero() -> None:
    """An error at load."""
    with pytest.raises(ValueError, match="non_target_weight"):
        built("dkd", non_target_weight=-1)
