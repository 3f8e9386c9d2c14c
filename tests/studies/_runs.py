"""Runs of a study: students of a recipe with some values changed, seed by seed, through the store of the repository."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from components.data.example import build_example_registry
from components.settings import outermost_repository
from flows.repeat import STEPS, all_steps
from flows.run import Run

ROOT = outermost_repository(Path(__file__).parent)
SEEDS = range(5)
# Nobody asks a study how long a model takes, and a large teacher takes its time.
NO_LATENCY = ("evaluate.latency_batches=[1]", "evaluate.latency_repeats=10")


@dataclass(frozen=True, slots=True)
class Subject:
    """A recipe and the values that a study changes in all of its runs."""

    recipe: Path
    overrides: tuple[str, ...] = ()

    def run(self, *steps: str, overrides: Sequence[str] = (), seed: int) -> Run:
        given = (*self.overrides, *overrides, *NO_LATENCY, f"student.seed={seed}")
        return all_steps(self.recipe, given, f"study {self.recipe.stem} {seed}", steps=steps)

    def measured(self, *overrides: str, seed: int) -> Mapping[str, Any]:
        """Test metrics of teacher, baseline and student."""
        run = self.run(*STEPS, overrides=overrides, seed=seed)
        found: Mapping[str, Any] = run.artifacts()["evaluate"].read_json("metrics.json")
        return found

    def teacher(self, *overrides: str) -> Path:
        """Where the weights of the teacher lie that is trained with *overrides*."""
        run = self.run(*STEPS[: STEPS.index("teacher") + 1], overrides=overrides, seed=0)
        return run.artifacts()["teacher"].root / "weights.safetensors"

    def accuracies(self, *overrides: str, arm: str = "student", seeds: Sequence[int] = SEEDS) -> list[float]:
        return [self.measured(*overrides, seed=seed)[arm]["accuracy"] for seed in seeds]


def digits(*overrides: str) -> Subject:
    build_example_registry(ROOT / "var" / "example-data")
    return Subject(ROOT / "params.yaml", overrides)


def index_file(data: str) -> Path:
    """Where its reader may have put one, see conftest.py."""
    return Path(os.environ.get("POTSTILL_INDEX_FILES", "nowhere")) / f"{data.replace('-', '_')}.npz"


def own_data(recipe: str, data: str, *overrides: str, index: str = "") -> Subject:
    """A recipe whose data its reader has put below var/, split by an index file where there is one; else skipped."""
    if not (ROOT / "var" / data).is_dir():
        pytest.skip(f"recipes/{recipe}.yaml says how to put its data into var/{data}")
    file = index_file(data)
    split = [f"data.split={{by: index, file: {file}, test_column: split{index}}}"] if file.exists() else []
    return Subject(ROOT / "recipes" / f"{recipe}.yaml", (*split, *overrides))


def keep(name: str, found: Mapping[str, Any]) -> None:
    """Below var/studies, as docs/results/ has it."""
    folder = ROOT / "var" / "studies"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))
