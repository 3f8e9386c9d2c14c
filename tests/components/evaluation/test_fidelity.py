"""Agreement and divergence between student and teacher."""

import numpy as np
import pytest

from components.errors import BadInputError
from components.evaluation import fidelity

TEACHER = np.array([[np.log(3.0), 0.0], [0.0, 1.0]])
STUDENT = np.array([[0.0, 0.0], [2.0, 1.0]])


def test_agreement_by_hand() -> None:
    """Row 0: both say 0 (a tie goes to the first); row 1: they differ."""
    assert fidelity.agreement(STUDENT, TEACHER) == 0.5


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_kl_by_hand(temperature: float) -> None:
    """Teacher p, student even: p ln 2p + (1-p) ln 2(1-p), with p = 3^(1/T) / (1 + 3^(1/T))."""
    odds = 3 ** (1 / temperature)
    p = odds / (1 + odds)
    expected = p * np.log(2 * p) + (1 - p) * np.log(2 * (1 - p))
    assert fidelity.mean_kl(TEACHER[:1], STUDENT[:1], temperature=temperature) == pytest.approx(expected, abs=1e-14)


def test_direction() -> None:
    """KL(teacher || student) is not KL(student || teacher)."""
    there, back = fidelity.mean_kl(TEACHER, STUDENT), fidelity.mean_kl(STUDENT, TEACHER)
    assert there != pytest.approx(back)


def test_a_model_is_faithful_to_itself() -> None:
    """Agreement 1 and divergence 0, also when all logits are shifted."""
    logits = np.random.default_rng(0).normal(size=(30, 7)).astype(np.float32)
    assert fidelity.agreement(logits, logits) == 1.0
    assert fidelity.mean_kl(logits, logits + np.float32(4)) == pytest.approx(0.0, abs=1e-12)


def test_other_classes_are_refused() -> None:
    """Ten classes cannot be compared with twelve."""
    with pytest.raises(BadInputError, match="same rows and classes"):
        fidelity.agreement(np.zeros((2, 10)), np.zeros((2, 12)))
