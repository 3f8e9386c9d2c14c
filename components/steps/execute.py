"""Run one step through the store: the one path of the Prefect task, the dvc.yaml stage and the plan."""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components import plugins
from components.artifacts.artifact import MEASURED, Artifact, write_json
from components.artifacts.code_digest import code_digests
from components.artifacts.fingerprint import device_name, num_threads
from components.artifacts.key import Key, library_versions, make_key
from components.artifacts.store import Store
from components.contracts import Progress, Resolved
from components.params import Params
from components.settings import Settings
from components.steps.meter import Meter
from components.steps.step import Step, StepContext, World


@dataclass(frozen=True, slots=True)
class Outcome:
    """A step's result and how it came about."""

    step: str
    artifact: Artifact
    cached: bool
    producer: str
    seconds: float
    notes: Mapping[str, Any]
    """What the step looked up for the run that is outside its key: a commit, a tag."""


def key_of(step: Step, params: Params, inputs: Mapping[str, Artifact], resolved: Resolved) -> Key:
    """Everything that could change a number of *step*, named and digested."""
    modules = step.plugins(params)
    entries = (f"components.steps.{step.name}", *modules)
    return make_key(
        step.name,
        {
            "params": step.reads(params),
            "inputs": {name: inputs[name].digest for name in step.inputs},
            "facts": resolved.facts,
            "code": code_digests(entries),
            "libraries": library_versions((*step.libraries, *plugins.libraries(modules))),
        },
    )


def execute(
    step: Step,
    *,
    params: Params,
    settings: Settings,
    store: Store,
    inputs: Mapping[str, Artifact],
    producer: str,
    progress: Progress,
) -> Outcome:
    """Find the result of *step* or compute it, then put it through the step's own gate.

    Raises a RefusedError when that gate says no; the result is committed all the same.
    """
    started = time.monotonic()
    progress.check()
    world = World(params=params, settings=settings, inputs=inputs, store=store)
    resolved = step.resolve(world)
    key = key_of(step, params, inputs, resolved)

    def make(out: Path, work: Path) -> Mapping[str, Any]:
        return _run(step, StepContext(params, settings, inputs, resolved, out, work, progress, key, store))

    obtained = store.obtain(key, make, producer=producer, progress=progress)
    step.check(obtained.artifact, params)
    if step.judge:
        importlib.import_module(step.judge).judge(obtained.artifact, world)
    return Outcome(
        step=step.name,
        artifact=obtained.artifact,
        cached=obtained.cached,
        producer=obtained.producer,
        seconds=time.monotonic() - started,
        notes=resolved.notes,
    )


def _run(step: Step, context: StepContext) -> Mapping[str, Any]:
    """Run the step's function and say what it cost."""
    if "torch" in step.libraries:
        import torch

        torch.set_num_threads(num_threads(context.settings))
    with Meter() as meter:
        step.run(context)
    write_json(context.out / MEASURED / "system.json", meter.samples)
    return {**meter.cost(), "device": device_name(context.settings)}
