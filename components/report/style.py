"""What the three arms are called and how they look, the same in every table and plot."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Arm:
    """One column of the table, one colour of the plots."""

    name: str
    """The step that made it."""
    title: str
    colour: str
    marker: str
    dashes: tuple[float, ...]
    """On and off, in points; none: a solid line. Told apart without colour, too."""


ARMS = (
    # Okabe and Ito's palette: these three stay apart for every common colour blindness, on white and on black.
    Arm("teacher", "teacher", "#E69F00", "s", (6, 2)),
    Arm("baseline", "hard labels", "#0072B2", "^", (2, 2)),
    Arm("student", "distilled", "#009E73", "o", ()),
)
TITLES = {arm.name: arm.title for arm in ARMS}
INK = "#1b1f24"
"""Text and axes; the page replaces it by the colour of its own text, so that plots follow a dark theme."""
