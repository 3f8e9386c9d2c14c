"""Facts about the weighted sum of objectives."""

import pytest
import torch
from pydantic import ValidationError

from components import plugins
from tests.components.objectives.given import batch, built, signals

PARTS = [{"name": "kd", "temperature": 4, "weight": 0.25}, {"name": "kd", "temperature": 1, "weight": [[0, 0], [1, 2]]}]


def test_sum_of_its_parts_each_with_its_weight_of_the_moment() -> None:
    """A quarter of one and, halfway of a rise from 0 to 2, once the other; the whole's own weight is the loop's."""
    student, teacher = signals(0, 9)
    found = built("combined", parts=PARTS, weight=7)(student, teacher, batch(9, progress=0.5))
    warm, sharp = (built("kd", temperature=t)(student, teacher, batch(9)) for t in (4, 1))

    torch.testing.assert_close(found, 0.25 * warm + sharp)


def test_alpha_of_a_part_is_refused() -> None:
    """It would be silently ignored."""
    with pytest.raises(ValidationError, match="alpha of kd would mean nothing"):
        built("combined", parts=[{"name": "kd", "alpha": 0.5}, {"name": "kd"}])


def test_code_of_all_parts_counts() -> None:
    """The step's key follows every file that computes the loss, of parts within parts too."""
    inner = {"name": "combined", "parts": [{"name": "kd"}, {"name": "kd"}]}
    params = plugins.params_class("objectives", "combined").model_validate(
        {"name": "combined", "parts": [inner, {"name": "kd"}]}
    )

    assert params.plugin_names() == ("combined", "combined", "kd", "kd", "kd")  # type: ignore[attr-defined]
