"""The door of dvc.yaml: `potstill stage NAME` runs the same steps through the same store, without a server."""

from __future__ import annotations

import shutil
from pathlib import Path

from components.artifacts.store import write_reference
from components.report.stage_files import write_evaluation_files, write_learning_curve
from components.steps.execute import Outcome
from components.steps.pipeline import ancestors
from flows.run import Run

OUTPUTS = Path("var") / "dvc"
"""Below the current folder, which in a DVC experiment is a copy of the project."""


def run_stage(run: Run, name: str) -> Outcome:
    """Bring stage *name* up to date, and those before it; all but the last are normally found."""
    for needed in ancestors(name):
        run.step(needed)
    outcome = run.step(name)
    write_outputs(run, outcome)
    return outcome


def write_outputs(run: Run, outcome: Outcome) -> None:
    """A reference for what stays in the store, the files themselves for what people look at."""
    write_reference(OUTPUTS / f"{outcome.step}.json", outcome.artifact)
    if outcome.step == "evaluate":
        write_evaluation_files(OUTPUTS, outcome.artifact)
        write_learning_curve(OUTPUTS / "plots" / "learning_curve.csv", run.artifacts())
    if outcome.step == "export":
        _copy(outcome.artifact.root, OUTPUTS / "export")


def _copy(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("manifest.json", "measured"))
