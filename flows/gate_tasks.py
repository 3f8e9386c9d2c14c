"""The lines of a flow that decide and move the champion: evidence, gate, journal, aliases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from prefect.logging import get_run_logger

from components import registry
from components.contracts import Evidence, Reason
from components.data.packed import open_packed
from components.errors import BadInputError, PromotionConflictError
from components.evidence import arm_evidence, registered_evidence, what_passed
from components.gate import Decision, decide
from components.promotion.journal import Change, Journal, Kind
from components.promotion.smoke import smoke_test
from components.promotion.transaction import CHALLENGER, Standing, change_champion, standing
from components.registry import RegisteredVersion
from flows.run import Run, who
from flows.tasks import Versions, submit

SEEDS = "seeds"
TEACHER_TAG = "teacher.digest"


@dataclass(frozen=True, slots=True)
class Judged:
    """A decision, and against whom it was made."""

    decision: Decision
    candidate: RegisteredVersion
    holdout_digest: str
    after: int
    """The journal's last line when it was made; a promotion that follows must still find it there."""

    @property
    def promotes(self) -> bool:
        return self.decision.outcome == "promote"


def registered(run: Run, version: str) -> RegisteredVersion:
    """Version *version* of this run's students; BadInputError where there is none."""
    return existing_version(run.settings.tracking_uri, run.params.registry.student, version)


def existing_version(tracking_uri: str, name: str, version: str) -> RegisteredVersion:
    """BadInputError where there is none."""
    found = registry.get_version(tracking_uri, name, version)
    if found is None:
        raise BadInputError(
            f"{name!r} has no version {version!r}: `potstill history` lists champions, MLflow's page of the model all versions"
        )
    return found


def judge(run: Run, versions: Versions) -> Judged:
    """The gate: the candidate of this run against every bound, and against the champion on the same holdout."""
    judged: Judged = submit(run, "gate", _judge_student, versions, after=["register"])
    return judged


def judge_version(run: Run, version: RegisteredVersion) -> Judged:
    """The same gate for a version that is registered already, on the holdout of this run's data."""
    judged: Judged = submit(run, "gate", _judge_registered, version, after=["validate"])
    return judged


def promote(run: Run, judged: Judged) -> None:
    """Load the candidate in a fresh process, then journal and aliases; the old champion's version stays registered."""
    submit(run, "promote", _promote, judged, "promote", "", after=["gate"])


def promote_by_force(run: Run, judged: Judged, reason: str) -> None:
    """The same whatever the gate said, with a person's reason."""
    submit(run, "promote", _promote, judged, "force", reason, after=["gate"])


def journal_of(run: Run) -> Journal:
    return Journal(run.settings.promotion_journal)


def _judge_student(run: Run, versions: Versions) -> Judged:
    artifacts = run.artifacts()
    candidate = arm_evidence(artifacts, "student", run.params, siblings=_siblings(run))
    teacher = arm_evidence(artifacts, "teacher", run.params)
    return _judge(run, versions.student, candidate, teacher, what_passed(artifacts))


def _judge_registered(run: Run, version: RegisteredVersion) -> Judged:
    data, params, settings = run.artifacts()["data"], run.params, run.settings
    digest = version.tags.get(TEACHER_TAG, "")
    taught_by = registry.find_version(settings.tracking_uri, params.registry.teacher, digest) if digest else None
    candidate = registered_evidence(version, data, params, settings, teacher=taught_by)
    teacher = registered_evidence(taught_by, data, params, settings) if taught_by else None
    return _judge(run, version, candidate, teacher, ())


def _judge(
    run: Run, version: RegisteredVersion, candidate: Evidence, teacher: Evidence | None, passed: tuple[Reason, ...]
) -> Judged:
    uri, params = run.settings.tracking_uri, run.params
    stand = standing(journal_of(run), uri, version.name, say=run.progress.say)
    champion = _champion(run, stand, candidate)
    look = _look(run, version, candidate, champion)
    workload = params.workload_for(open_packed(run.artifacts()["data"]).spec)
    lines = (*passed, *_committed(run, version))
    decision = decide(candidate, champion, teacher, params.gate, workload, look=look, passed=lines)
    get_run_logger().info(decision.summary())
    if decision.outcome != "already_champion":
        registry.set_alias(uri, version.name, CHALLENGER, version.version)
    return Judged(decision, version, candidate.holdout_digest, stand.sequence)


def _committed(run: Run, version: RegisteredVersion) -> Iterator[Reason]:
    """Whether the code that made the version can be had again."""
    if run.params.gate.committed_code:
        commit, clean = version.tags.get("code.commit", "unknown"), version.tags.get("code.dirty") != "true"
        text = f"made by the code of commit {commit[:12]}" + (
            "" if clean else " with uncommitted changes: commit them and run again, or set gate.committed_code=false"
        )
        yield Reason("committed code", clean, text)


def _champion(run: Run, stand: Standing, candidate: Evidence) -> Evidence | None:
    if stand.champion is None:
        return None
    if stand.champion.digest == candidate.model_digest:
        return candidate
    return registered_evidence(stand.champion, run.artifacts()["data"], run.params, run.settings)


def _look(run: Run, version: RegisteredVersion, candidate: Evidence, champion: Evidence | None) -> int:
    """As the how-manieth this holdout judges the candidate; only a comparison spends anything."""
    if champion is None or champion.model_digest == candidate.model_digest:
        return 1
    return journal_of(run).look(version.name, candidate.holdout_digest, candidate.model_digest)


def _siblings(run: Run) -> tuple[float, ...]:
    """The gate's metric on validation of students of further seeds, where a test of the gate asks for them."""
    wanted = max((test.count for test in run.params.gate.tests if test.name == SEEDS), default=0)  # type: ignore[attr-defined]
    first = run.params.student.seed
    return tuple(_validated(run, seed) for seed in range(first, first + wanted))


def _validated(run: Run, seed: int) -> float:
    student = run.params.student.model_copy(update={"seed": seed})
    sibling = replace(run, params=run.params.model_copy(update={"student": student}), outcomes=dict(run.outcomes))
    found: Mapping[str, Any] = sibling.step("student").artifact.read_json("metrics.json")
    return float(found[run.params.gate.metric])


def _promote(run: Run, judged: Judged, kind: Kind, reason: str) -> None:
    uri, version = run.settings.tracking_uri, judged.candidate
    smoke_test(version, uri)
    change = Change(
        kind=kind,
        version=version.version,
        digest=version.digest,
        who=who(),
        holdout_digest=judged.holdout_digest,
        decision=judged.decision.to_json(),
        reason=reason,
    )
    try:
        change_champion(journal_of(run), uri, version.name, change, after=judged.after, say=run.progress.say)
    except PromotionConflictError:
        champion = standing(journal_of(run), uri, version.name, say=run.progress.say).champion
        if champion is None or champion.digest != version.digest:
            raise
        run.progress.say(f"{version.name} version {champion.version}: another run promoted the same student")
