"""Facts about the softened divergence."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.contracts import Signals
from components.objectives._softened_kl import FEW_CLASSES, SoftenedKL
from components.objectives.kd import Params
from tests.components.objectives.given import batch, built, reference, signals

ANY_BATCH = batch(1)


def kd(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    return SoftenedKL(temperature=temperature, alpha=1.0)(Signals(student), Signals(teacher), ANY_BATCH)


def test_agrees_with_four_reference_implementations() -> None:
    """On the tensors of seed 0 the mean is 12.12518 at T = 4, as in RepDistiller, mdistiller, MMRazor and ModelOpt."""
    assert built("kd", temperature=4)(*reference()).mean().item() == pytest.approx(12.12518, rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 8.0])
def test_two_classes_by_hand(temperature: float) -> None:
    """Teacher logits (T ln 3, 0) are 3 to 1 once softened: T^2 (3/4 ln 3/2 + 1/4 ln 1/2) for an undecided student."""
    teacher = torch.tensor([[temperature * math.log(3), 0.0]])
    by_hand = temperature**2 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))

    assert kd(torch.zeros(1, 2), teacher, temperature).item() == pytest.approx(by_hand, rel=1e-5)


@given(seed=st.integers(0, 2**32), temperature=st.floats(0.5, 20))
def test_nothing_to_learn_from_an_equal(seed: int, temperature: float) -> None:
    """Equal logits lose nothing, exactly."""
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(seed)) * 10

    assert kd(logits, logits.clone(), temperature).tolist() == [0.0] * 5


@given(seed=st.integers(0, 2**32), shift=st.floats(-50, 50))
def test_a_constant_on_all_logits_means_nothing(seed: int, shift: float) -> None:
    """Softmax does not see a constant added to a row, of either side."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, 4, 6, generator=generator, dtype=torch.float64).unbind()

    torch.testing.assert_close(kd(student + shift, teacher - shift, 3.0), kd(student, teacher, 3.0))


def test_gradient_is_the_difference_of_the_softened_probabilities() -> None:
    """d/ds = T (softmax(s/T) - softmax(t/T)), and autograd agrees with finite differences in float64."""
    student, teacher = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64).unbind()
    student = student.clone().requires_grad_()
    (found,) = torch.autograd.grad(kd(student, teacher, 4.0).sum(), student)

    torch.testing.assert_close(found, 4 * ((student / 4).softmax(1) - (teacher / 4).softmax(1)))
    assert torch.autograd.gradcheck(lambda logits: kd(logits, teacher, 4.0), student)


@given(
    count=st.integers(0, 9),
    num_classes=st.integers(1, 40),
    temperature=st.floats(0.25, 20),
    scale=st.floats(0, 30),
    seed=st.integers(0, 2**32),
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str)
def test_closed_form_is_autograd(
    dtype: torch.dtype, tolerance: float, count: int, num_classes: int, temperature: float, scale: float, seed: int
) -> None:
    """Losses and gradient of any shape, sharpness and T, relative to the largest of them; the logits stay as they were."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, count, num_classes, generator=generator, dtype=torch.float64).mul(scale).to(dtype)
    kept = student.clone(), teacher.clone()
    leaf = student.double().requires_grad_()
    expected = kd(leaf, teacher.double(), temperature)
    expected.sum().backward()
    objective = SoftenedKL(temperature=temperature, alpha=1.0)
    losses, gradient = objective.rows_and_gradient(Signals(student), Signals(teacher), ANY_BATCH)

    size = max(1.0, temperature**2, *expected.abs().tolist())
    assert losses.dtype == gradient.dtype == dtype
    torch.testing.assert_close(losses.double(), expected.detach(), rtol=0, atol=tolerance * size)
    torch.testing.assert_close(gradient.double(), leaf.grad, rtol=0, atol=tolerance * size)
    assert torch.equal(student, kept[0])
    assert torch.equal(teacher, kept[1])


def test_few_and_many_classes_are_one_function() -> None:
    """Either side of the number of classes at which the layout changes, an extra class of no weight changes nothing."""
    student, teacher = torch.randn(2, 6, FEW_CLASSES - 1, generator=torch.Generator().manual_seed(2)).unbind()
    impossible = torch.full((6, 1), -1e4)
    wider = [torch.cat((logits, impossible), dim=1) for logits in (student, teacher)]

    torch.testing.assert_close(kd(*wider, 2.0), kd(student, teacher, 2.0))


def test_half_precision_is_widened() -> None:
    """bfloat16 logits are compared in float32."""
    logits = torch.randn(4, 10, generator=torch.Generator().manual_seed(0)).bfloat16()
    wide = kd(logits.float(), logits.float().flip(0), 4.0)

    assert kd(logits, logits.flip(0), 4.0).dtype == torch.float32
    torch.testing.assert_close(kd(logits, logits.flip(0), 4.0), wide, rtol=0, atol=0)


def test_params_reject_what_cannot_be_softened() -> None:
    """A temperature of 0 or less is an error at load."""
    with pytest.raises(ValueError, match="temperature"):
        Params(temperature=0)


def test_temperature_may_follow_a_schedule() -> None:
    """Halfway from 8 to 2 it is the divergence at T = 5, by both ways to compute it."""
    student, teacher = signals(5, 6)
    moving = built("kd", temperature=[[0, 8], [1, 2]])
    fixed = built("kd", temperature=5)

    torch.testing.assert_close(moving(student, teacher, batch(6)), fixed(student, teacher, batch(6)))
    for found, wanted in zip(
        moving.rows_and_gradient(student, teacher, batch(6)),  # type: ignore[attr-defined]
        fixed.rows_and_gradient(student, teacher, batch(6)),  # type: ignore[attr-defined]
        strict=True,
    ):
        torch.testing.assert_close(found, wanted)
