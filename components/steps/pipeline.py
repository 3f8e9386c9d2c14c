"""The pipeline in order; a step's file is imported only when it is asked for."""

from __future__ import annotations

import importlib

from components.steps.step import Step

ORDER = ("data", "validate", "teacher", "soft_targets", "baseline", "student", "evaluate", "export")


def load_step(name: str) -> Step:
    """The step in components/steps/<name>.py."""
    step = importlib.import_module(f"components.steps.{name}").STEP
    assert isinstance(step, Step)
    return step
