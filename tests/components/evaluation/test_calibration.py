"""Facts about the one temperature."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.evaluation.calibration import fitted_temperature
from components.evaluation.metrics import negative_log_likelihood


def drawn(seed: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits [4000, 5], and labels that softmax(logits / temperature) says the chances of."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(4000, 5)) * 3
    noise = generator.gumbel(size=logits.shape)
    return logits, (logits / temperature + noise).argmax(1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_finds_the_temperature_that_labels_were_drawn_at(temperature: float) -> None:
    """Within what 4,000 labels can tell."""
    assert fitted_temperature(*drawn(0, temperature)) == pytest.approx(temperature, rel=0.1)


@given(seed=st.integers(0, 2**32), other=st.floats(0.1, 10))
def test_no_other_is_better(seed: int, other: float) -> None:
    """Its NLL is the least."""
    logits, labels = drawn(seed, 2.0)
    best = negative_log_likelihood(logits / fitted_temperature(logits, labels), labels)

    assert best <= negative_log_likelihood(logits / other, labels) + 1e-9


def test_follows_the_scale_of_the_logits() -> None:
    """Ten times the logits, ten times T."""
    logits, labels = drawn(1, 1.0)

    assert fitted_temperature(logits * 10, labels) == pytest.approx(10 * fitted_temperature(logits, labels), rel=1e-4)
