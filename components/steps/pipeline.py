"""The pipeline in order; a step's file is imported only when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

from components.steps.step import Step

ORDER = ("data", "validate", "teacher", "fold_teachers", "soft_targets", "baseline", "student", "evaluate", "export")


def load_step(name: str) -> Step:
    """The step in components/steps/<name>.py."""
    step = importlib.import_module(f"components.steps.{name}").STEP
    assert isinstance(step, Step)
    return step


def ancestors(name: str) -> tuple[str, ...]:
    """The steps that *name* stands on, in pipeline order."""
    needed = set(_inputs(name))
    return tuple(step for step in ORDER if step in needed)


def _inputs(name: str) -> Iterator[str]:
    for direct in load_step(name).inputs:
        yield direct
        yield from _inputs(direct)
