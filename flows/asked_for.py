"""Which artifacts params.yaml asks for: their keys, as far as the results before them are in the store."""

from __future__ import annotations

from collections.abc import Iterator

from components.artifacts.artifact import Artifact
from components.artifacts.key import Key
from components.steps.execute import key_of
from components.steps.pipeline import ORDER, ancestors, load_step
from components.steps.step import World
from flows.run import Run


def keys_asked_for(run: Run, *names: str) -> Iterator[Key]:
    """Keys of the steps *names* and of those they stand on, in pipeline order; of all steps without *names*.

    Nothing is verified, computed or marked as used. A step behind one that is not there has no key; what the caller
    makes before it asks for the next key is there.
    """
    wanted = {each for name in names or ORDER for each in (name, *ancestors(name))}
    found: dict[str, Artifact] = {}
    for name in (each for each in ORDER if each in wanted):
        step = load_step(name)
        if any(needed not in found for needed in step.inputs):
            continue
        key = key_of(step, run.params, found, step.resolve(World(run.params, run.settings, found, run.store)))
        yield key
        manifest = run.store.storage.manifest(name, key.digest)
        if manifest is not None:
            found[name] = Artifact(name, key.digest, manifest.digest, run.store.storage.root / name / key.digest)
