"""Facts about the softened divergence."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.contracts import Batch, Signals
from components.objectives._softened_kl import SoftenedKL
from components.objectives.kd import Params

ANY_BATCH = Batch(labels=torch.zeros(1), labelled=torch.ones(1), sample_index=torch.zeros(1), progress=0.0)


def kd(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    return SoftenedKL(temperature=temperature, alpha=1.0)(Signals(student), Signals(teacher), ANY_BATCH)


def test_agrees_with_four_reference_implementations() -> None:
    """On the tensors of seed 0 the mean is 12.12518 at T = 4, as in RepDistiller, mdistiller, MMRazor and ModelOpt."""
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(64, 100, generator=generator) * 3
    teacher = torch.randn(64, 100, generator=generator) * 4

    assert kd(student, teacher, 4.0).mean().item() == pytest.approx(12.12518, rel=1e-5)


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
