"""What exactly made a registered model: gathered from its tags, the journal and the manifests in the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.artifacts.artifact import Manifest
from components.artifacts.store import Store
from components.promotion.journal import Line
from components.registry import RegisteredVersion

STEPS = ("data", "validate", "teacher", "fold_teachers", "soft_targets", "student", "evaluate")


@dataclass(frozen=True, slots=True)
class Ancestor:
    """One result that the model stands on, or was judged by."""

    step: str
    digest: str
    key: str
    manifest: Manifest | None
    """None where the store no longer holds it."""

    @property
    def seconds(self) -> float | None:
        return float(self.manifest.cost["seconds"]) if self.manifest and "seconds" in self.manifest.cost else None

    @property
    def producer(self) -> str:
        return self.manifest.producer if self.manifest else ""


@dataclass(frozen=True, slots=True)
class Ancestry:
    """Of one version."""

    version: RegisteredVersion
    ancestors: Sequence[Ancestor]
    lines: Sequence[Line]
    """Of the journal that made it champion, or took it away; oldest first."""

    def tag(self, name: str) -> str:
        return self.version.tags.get(name, "")

    @property
    def seconds(self) -> float:
        """Of all ancestors that are still there, wherever they were computed."""
        return sum(ancestor.seconds or 0.0 for ancestor in self.ancestors)

    @property
    def found_seconds(self) -> float:
        """Of those that the run which registered it did not have to compute."""
        run = self.tag("flow_run.name")
        return sum(each.seconds or 0.0 for each in self.ancestors if each.producer and each.producer != run)

    def as_json(self) -> dict[str, Any]:
        return {
            "version": {"name": self.version.name, "version": self.version.version, "digest": self.version.digest},
            "tags": dict(sorted(self.version.tags.items())),
            "steps": [
                {
                    "step": each.step,
                    "digest": each.digest,
                    "key": each.key,
                    "seconds": each.seconds,
                    "made_by": each.producer,
                }
                for each in self.ancestors
            ],
            "journal": [
                {"sequence": line.sequence, "kind": line.kind, "at": line.at, "who": line.who} for line in self.lines
            ],
        }


def ancestry_of(version: RegisteredVersion, store: Store, lines: Sequence[Line]) -> Ancestry:
    """Steps in order; those that its tags do not name are left out."""
    named = [step for step in STEPS if f"{step}.digest" in version.tags]
    mine = [line for line in lines if version.version in (line.version, line.previous_version) and line.state == "done"]
    return Ancestry(version, [_ancestor(step, version.tags, store) for step in named], mine)


def _ancestor(step: str, tags: Mapping[str, str], store: Store) -> Ancestor:
    key = tags.get(f"{step}.key", "")
    return Ancestor(step, tags[f"{step}.digest"], key, store.storage.manifest(step, key) if key else None)


def changed(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted name -> both values, of every parameter that differs."""
    from components.artifacts.key import flat

    first, second = flat(ours), flat(theirs)
    names = dict.fromkeys((*first, *second))
    return {name: (first.get(name), second.get(name)) for name in names if first.get(name) != second.get(name)}
