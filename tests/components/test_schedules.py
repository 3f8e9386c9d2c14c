"""Facts about numbers that change while a student is trained."""

from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from components.schedules import Scheduled, Within, highest, in_words, is_fixed, value_at

RISE = ((0.1, 2.0), (0.3, 4.0), (1.0, 1.0))


class Section(BaseModel):
    value: Annotated[Scheduled, Within(gt=0, le=10)] = 1.0


@pytest.mark.parametrize(
    ("progress", "value"), [(0, 2), (0.1, 2), (0.2, 3), (0.3, 4), (0.65, 2.5), (1, 1)], ids=lambda value: f"{value:g}"
)
def test_straight_lines_between_knots(progress: float, value: float) -> None:
    """Before the first knot its value, after the last its own, between two the line."""
    assert value_at(RISE, progress) == pytest.approx(value)


def test_a_number_is_itself() -> None:
    """Whatever the progress."""
    assert value_at(3.5, 0.0) == value_at(3.5, 1.0) == highest(3.5) == 3.5
    assert is_fixed(3.5)
    assert not is_fixed(RISE)
    assert highest(RISE) == 4


@given(progress=st.floats(0, 1))
def test_never_outside_its_knots(progress: float) -> None:
    """A value lies between the least and the largest knot."""
    assert 1 <= value_at(RISE, progress) <= highest(RISE)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0, "greater than 0"),
        (11, "less than or equal to 10"),
        (float("nan"), "finite"),
        ("fast", "must be a number, or a schedule"),
        (True, "must be a number, or a schedule"),
        ([[0, 1]], "two or more"),
        ([[0, 1], 2], "two or more"),
        ([[0, 1], [0, 2]], "ascend"),
        ([[0, 1], [1.5, 2]], "ascend"),
        ([[0, 1], [1, 0]], "greater than 0"),
    ],
    ids=str,
)
def test_what_is_no_schedule_is_said(value: Any, message: str) -> None:
    """In one problem, not one for every type that it could have been."""
    with pytest.raises(ValidationError, match=message) as raised:
        Section(value=value)

    assert raised.value.error_count() == 1


def test_dumps_to_what_it_was_read_from() -> None:
    """So that it stands in keys and reports as in the file."""
    assert Section(value=[[0, 1], [1, 2]]).model_dump(mode="json") == {"value": [[0.0, 1.0], [1.0, 2.0]]}
    assert Section(value=4).model_dump(mode="json") == {"value": 4.0}


def test_in_words() -> None:
    """For reports."""
    assert in_words(RISE) == "2 to 4 by 30% to 1 by 100%"
    assert in_words(4.0) == "4"
    assert in_words("huber") == "huber"
    assert in_words((("stage1", "stage1"), ("stage2", "stage3"))) == "stage1-stage1, stage2-stage3"
