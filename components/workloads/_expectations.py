"""Expectations on one column, as plain data."""

from __future__ import annotations

from typing import Any

from components.contracts import Expectation, Severity


def expect(kind: str, column: str, *, severity: Severity = "critical", **kwargs: Any) -> Expectation:
    """One on *column*; *kind* is Great Expectations' name of it."""
    return Expectation(kind, {"column": column, **kwargs}, severity)
