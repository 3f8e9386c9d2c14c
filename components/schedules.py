"""Numbers that may change while a student is trained: one number, or knots with straight lines between them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

Knots = tuple[tuple[float, float], ...]
"""(share of the training done, value), the shares ascending in 0..1."""
Scheduled = float | Knots

_SIGNS: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "gt": ("greater than", lambda value, bound: value > bound),
    "ge": ("greater than or equal to", lambda value, bound: value >= bound),
    "le": ("less than or equal to", lambda value, bound: value <= bound),
}


@dataclass(frozen=True, slots=True)
class Within:
    """The bounds of a scheduled parameter, for the number or for every knot: Annotated[Scheduled, Within(gt=0)]."""

    gt: float | None = None
    ge: float | None = None
    le: float | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._parse, handler(source))

    def _parse(self, value: Any) -> Scheduled:
        """ValueError for what is neither a number nor ascending knots, or lies outside the bounds."""
        if not isinstance(value, list | tuple):
            return self._bounded(value)
        if len(value) < 2 or not all(isinstance(knot, list | tuple) and len(knot) == 2 for knot in value):
            raise ValueError(
                "a schedule is a list of two or more [share of the training done, value] pairs, such as [[0, 0], [0.2, 1]]"
            )
        shares = [_number(share) for share, _ in value]
        if not (all(a < b for a, b in itertools.pairwise(shares)) and shares[0] >= 0 and shares[-1] <= 1):
            raise ValueError(f"the shares of a schedule must ascend within 0..1; they are {shares}")
        return tuple(zip(shares, (self._bounded(each) for _, each in value), strict=True))

    def _bounded(self, value: Any) -> float:
        number = _number(value)
        for name, (words, holds) in _SIGNS.items():
            bound = getattr(self, name)
            if bound is not None and not holds(number, bound):
                raise ValueError(f"Input should be {words} {bound:g}")
        return number


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(  # noqa: TRY004 (pydantic turns only ValueError into a problem of the file)
            "must be a number, or a schedule: a list of [share of the training done, value] pairs"
        )
    if not math.isfinite(value):
        raise ValueError("Input should be a finite number")
    return float(value)


def value_at(value: Scheduled, progress: float) -> float:
    """The value with the share *progress* (0..1) of the training done; before the first knot and after the last, theirs."""
    if isinstance(value, float | int):
        return value
    for (left, first), (right, second) in itertools.pairwise(value):
        if progress <= left:
            return first
        if progress < right:
            return first + (second - first) * (progress - left) / (right - left)
    return value[-1][1]


def highest(value: Scheduled) -> float:
    """The largest value it ever takes."""
    return value if isinstance(value, float | int) else max(each for _, each in value)


def is_fixed(value: Scheduled) -> bool:
    return isinstance(value, float | int)


def in_words(value: Any) -> str:
    """A number without trailing zeros, a schedule as '0 to 0.9 by 20 %', names with commas and pairs of them with a dash."""
    if isinstance(value, tuple) and all(isinstance(name, str) for name in value):
        return "-".join(value)
    if isinstance(value, tuple) and isinstance(value[0][0], str):
        return ", ".join(in_words(pair) for pair in value)
    if isinstance(value, tuple):
        (_, first), *later = value
        return f"{first:g} " + " ".join(f"to {number:g} by {share:.0%}" for share, number in later)
    return f"{value:g}" if isinstance(value, float) else str(value)
