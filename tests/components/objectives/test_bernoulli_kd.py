"""Facts about the divergence of yes-or-no answers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import binary_cross_entropy_with_logits

from components.contracts import Signals
from components.objectives._bernoulli_kl import bernoulli_kl
from tests.components.objectives.given import batch, built, reference, signals, softened


def test_is_what_binary_cross_entropy_exceeds_the_teachers_own_entropy_by() -> None:
    """On the tensors of seed 0, by torch's own loss, at T = 1."""
    student, teacher, rows = reference()
    targets = teacher.logits.sigmoid()
    excess = binary_cross_entropy_with_logits(student.logits, targets) - binary_cross_entropy_with_logits(
        teacher.logits, targets
    )

    assert built("bernoulli_kd", temperature=1)(student, teacher, rows).mean().item() == pytest.approx(
        excess.item(), rel=1e-5
    )


@pytest.mark.parametrize("temperature", [1.0, 2.0, 8.0])
def test_two_classes_by_hand(temperature: float) -> None:
    """The teacher says 3 to 1 once softened and then even, an undecided student even: half of T^2 (3/4 ln 3/2 + 1/4 ln 1/2)."""
    teacher = Signals(torch.tensor([[temperature * math.log(3), 0.0]]))
    by_hand = temperature**2 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    student, t = Signals(torch.zeros(1, 2)), {"temperature": temperature}

    assert built("bernoulli_kd", **t)(student, teacher, batch(1)).item() == pytest.approx(by_hand / 2, rel=1e-5)
    assert built("bernoulli_kd", **t, over_classes="sum")(student, teacher, batch(1)).item() == pytest.approx(
        by_hand, rel=1e-5
    )


@given(seed=st.integers(0, 2**32), temperature=st.floats(0.5, 20))
def test_one_question_is_kd_of_two_classes(seed: int, temperature: float) -> None:
    """A sigmoid is a softmax over the logit and 0."""
    student, teacher = (Signals(said.logits[:, :1]) for said in signals(seed, 5, dtype=torch.float64))
    two = [Signals(torch.cat((said.logits, torch.zeros_like(said.logits)), 1)) for said in (student, teacher)]

    torch.testing.assert_close(
        built("bernoulli_kd", temperature=temperature)(student, teacher, batch(5)),
        built("kd", temperature=temperature)(*two, batch(5)),
    )


@pytest.mark.parametrize("temperature", [2.0, 8.0])
def test_t_squared_once(temperature: float) -> None:
    """T^2 times the loss of the logits divided by T."""
    student, teacher, rows = reference()
    at_one = built("bernoulli_kd", temperature=1)(softened(student, temperature), softened(teacher, temperature), rows)

    torch.testing.assert_close(
        built("bernoulli_kd", temperature=temperature)(student, teacher, rows), temperature**2 * at_one
    )


@given(seed=st.integers(0, 2**32))
def test_least_where_student_equals_teacher(seed: int) -> None:
    """Zero there, exactly, and nowhere less; a constant counts, unlike in a softmax."""
    student, teacher = signals(seed, 5)
    objective = built("bernoulli_kd")

    assert objective(teacher, teacher, batch(5)).tolist() == [0.0] * 5
    assert (objective(student, teacher, batch(5)) > 0).all()
    assert (objective(Signals(teacher.logits + 1), teacher, batch(5)) > 1e-3).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_a_sure_answer_keeps_its_digits(sign: int) -> None:
    """Log-odds of 20 against 15 differ by 3e-7 nats, in single precision as in double."""
    student, teacher = torch.tensor([15.0 * sign]), torch.tensor([20.0 * sign])

    torch.testing.assert_close(
        bernoulli_kl(student, teacher).double(), bernoulli_kl(student.double(), teacher.double()), rtol=1e-5, atol=0
    )
