"""Which artifacts params.yaml asks for: their keys, as far as the results before them are in the store."""

from __future__ import annotations

from components.artifacts.artifact import Artifact
from components.steps.execute import key_of
from components.steps.pipeline import ORDER, load_step
from components.steps.step import World
from flows.run import Run


def keys_asked_for(run: Run, *, last: str = ORDER[-1]) -> dict[str, str]:
    """Step -> key, up to *last*; nothing is verified, and a step behind one that is not there has no key."""
    found: dict[str, Artifact] = {}
    keys: dict[str, str] = {}
    for name in ORDER[: ORDER.index(last) + 1]:
        step = load_step(name)
        if any(needed not in found for needed in step.inputs):
            continue
        resolved = step.resolve(World(run.params, run.settings, found, run.store))
        key = keys[name] = key_of(step, run.params, found, resolved).digest
        manifest = run.store.storage.manifest(name, key)
        if manifest is not None:
            found[name] = Artifact(name, key, manifest.digest, run.store.storage.root / name / key)
    return keys
