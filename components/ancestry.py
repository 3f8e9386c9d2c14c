"""What exactly made a registered model: gathered from its tags, MLflow's runs, the journal and the store."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from components import registry, tracking
from components.artifacts import ledger
from components.artifacts.key import flat
from components.artifacts.ledger import Saved
from components.artifacts.store import Store
from components.promotion.journal import Line
from components.records import COST, FINGERPRINT_TAG, PRODUCER_TAG, step_identity
from components.registry import RegisteredVersion
from components.tracking import IDENTITY_TAG, STEP_TAG, LoggedRun

STEPS = ("data", "validate", "teacher", "fold_teachers", "soft_targets", "student", "evaluate")


@dataclass(frozen=True, slots=True)
class Ancestor:
    """One result that the model stands on, or was judged by."""

    step: str
    digest: str
    key: str
    stored: bool
    """Whether the store of this place still holds it."""
    seconds: float | None
    """That making it took; None where neither the store nor MLflow knows."""
    producer: str
    """The run that made it; '' where nobody knows."""
    fingerprint: Mapping[str, Any]
    """Of the machine and builds that made it; empty where nobody knows."""
    metrics: Mapping[str, float]
    """As MLflow names them."""


@dataclass(frozen=True, slots=True)
class Ancestry:
    """Of one version."""

    version: RegisteredVersion
    parameters: Mapping[str, Any]
    """All of params.yaml."""
    ancestors: Sequence[Ancestor]
    lines: Sequence[Line]
    """Of the journal that made it champion, or took it away; oldest first."""
    decision: str
    """What the gate of its run said, whichever way; '' where MLflow has no such run."""
    teacher: RegisteredVersion | None
    """As it was registered beside its student; None for one that is no program, or came from elsewhere."""
    saved: Saved
    """What the store spared the run that registered it, as far as this place knows."""

    def tag(self, name: str) -> str:
        return self.version.tags.get(name, "")

    def ancestor(self, step: str) -> Ancestor | None:
        return next((each for each in self.ancestors if each.step == step), None)

    def was_found(self, each: Ancestor) -> bool:
        """Whether the run that registered the model did not have to compute it."""
        return bool(each.producer) and each.producer != self.tag("flow_run.name")

    @property
    def seconds(self) -> float:
        """Of all ancestors whose cost is known, wherever they were computed."""
        return sum(each.seconds or 0.0 for each in self.ancestors)

    @property
    def found_seconds(self) -> float:
        """Of those that the run which registered it did not have to compute."""
        return sum(each.seconds or 0.0 for each in self.ancestors if self.was_found(each))

    def as_json(self) -> dict[str, Any]:
        teacher = self.teacher and {
            "name": self.teacher.name,
            "version": self.teacher.version,
            "digest": self.teacher.digest,
        }
        return {
            "version": {
                "name": self.version.name,
                "version": self.version.version,
                "digest": self.version.digest,
                "aliases": list(self.version.aliases),
            },
            "tags": dict(sorted(self.version.tags.items())),
            "parameters": self.parameters,
            "teacher": teacher,
            "steps": [{**asdict(each), "found": self.was_found(each)} for each in self.ancestors],
            "cost": {"seconds": self.seconds, "found_seconds": self.found_seconds, "saved": asdict(self.saved)},
            "decision": self.decision,
            "journal": [asdict(line) for line in self.lines],
        }


def ancestry_of(version: RegisteredVersion, store: Store, lines: Sequence[Line], tracking_uri: str) -> Ancestry:
    """Steps in order; those that its tags do not name are left out.

    Raises BadInputError for a version that something else registered, and ServerError.
    """
    parameters = registry.parameters_of(version.uri, tracking_uri)
    named = [step for step in STEPS if f"{step}.digest" in version.tags]
    mine = [line for line in lines if version.version in (line.version, line.previous_version) and line.state == "done"]
    own = tracking.get_run(tracking_uri, version.run_id) if version.run_id else None
    experiment_id = own.experiment_id if own else ""
    gate = tracking.find_run(
        tracking_uri, {STEP_TAG: "gate", "student.digest": version.digest}, experiment_id=experiment_id
    )
    teacher_name, teacher = parameters["registry"]["teacher"], version.tags.get("teacher.digest", "")
    return Ancestry(
        version=version,
        parameters=parameters,
        ancestors=[_ancestor(step, version.tags, store, tracking_uri, experiment_id) for step in named],
        lines=mine,
        decision=gate.tags.get("mlflow.note.content", "") if gate else "",
        teacher=registry.find_version(tracking_uri, teacher_name, teacher) if teacher else None,
        saved=_saved(store, version.tags.get("flow_run.name", "")),
    )


def _ancestor(step: str, tags: Mapping[str, str], store: Store, tracking_uri: str, experiment_id: str) -> Ancestor:
    """The store's word comes first: MLflow's run may have been deleted, or never completed."""
    key, digest = tags.get(f"{step}.key", ""), tags[f"{step}.digest"]
    identity = {IDENTITY_TAG: step_identity(step, key, digest)}
    run = tracking.find_run(tracking_uri, identity, experiment_id=experiment_id)
    manifest = store.storage.manifest(step, key) if key else None
    metrics = _own_metrics(run)
    if manifest is None or manifest.digest != digest:
        seconds, told = run.metrics.get(f"{COST}seconds") if run else None, run.tags if run else {}
        fingerprint = json.loads(told.get(FINGERPRINT_TAG, "{}"))
        return Ancestor(step, digest, key, False, seconds, told.get(PRODUCER_TAG, ""), fingerprint, metrics)
    cost = manifest.cost.get("seconds")
    seconds = None if cost is None else float(cost)
    return Ancestor(step, digest, key, True, seconds, manifest.producer, dict(manifest.fingerprint), metrics)


def _own_metrics(run: LoggedRun | None) -> dict[str, float]:
    return {name: value for name, value in run.metrics.items() if not name.startswith("system/")} if run else {}


def _saved(store: Store, run: str) -> Saved:
    return ledger.total(saving for saving in ledger.savings(store.storage.root) if saving.run == run)


def changed(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted name -> both values, of every parameter that differs."""
    first, second = flat(ours), flat(theirs)
    names = dict.fromkeys((*first, *second))
    return {name: (first.get(name), second.get(name)) for name in names if first.get(name) != second.get(name)}
