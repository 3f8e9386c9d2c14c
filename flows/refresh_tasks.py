"""The lines of the flow `refresh`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prefect import runtime
from prefect.events import emit_event
from prefect.logging import get_run_logger

from components import registry
from components.data import versions
from components.data.newest import candidates
from components.data.versions import DataVersion
from components.registry import RegisteredVersion
from flows.run import Run
from flows.tasks import OUTCOME_TAG, submit

EVENT = "potstill.data-version.found"
NOTHING_NEW = "NothingNew"
"""The name of the state in which a run without new data ends."""
MD5_TAG = "data.md5"


@dataclass(frozen=True, slots=True)
class Found:
    """The newest data version, and whether a student was made from it and judged."""

    version: DataVersion
    student: RegisteredVersion | None
    skipped: tuple[str, ...]
    """Revisions between it and the last one from which a student was made and judged, newest first."""

    @property
    def is_new(self) -> bool:
        return self.student is None

    def in_words(self) -> str:
        if self.student is not None:
            return f"no new data: {self.version} is that of {self.student.name} version {self.student.version}"
        skipped = f"; skipped: {', '.join(self.skipped)}" if self.skipped else ""
        return f"new data: {self.version}{skipped}"


def refresh_name() -> str:
    """refresh-<four digits of the run's own id>."""
    return f"refresh-{str(runtime.flow_run.id or '')[-4:]}"


def look_for_data(run: Run) -> Found:
    """Git is asked for versions, the registry for what was made of them."""
    found: Found = submit(run, "look for data", _look, after=[])
    return found


def announce(run: Run, found: Found) -> None:
    """As an event of Prefect, so that other deployments can be triggered by it."""
    data = run.params.data
    emit_event(
        event=EVENT,
        resource={"prefect.resource.id": f"potstill.data.{data.path}", "prefect.resource.name": data.path},
        payload={
            "revision": found.version.revision,
            "commit": found.version.commit,
            "md5": found.version.md5,
            "skipped": list(found.skipped),
        },
    )


def _look(run: Run) -> Found:
    revisions = candidates(run.params.data.repository, run.params.refresh).revisions
    newest = _version(run, revisions[0])
    student = _student_of(run, newest)
    skipped = () if student else tuple(_without_student(run, revisions[1:]))
    found = Found(newest, student, skipped)
    get_run_logger().info(found.in_words())
    run.progress.say(found.in_words())
    return found


def _without_student(run: Run, revisions: tuple[str, ...]) -> Iterator[str]:
    """Newest first, up to the last one from which a student was made and judged."""
    for revision in revisions:
        if _student_of(run, _version(run, revision)) is not None:
            return
        yield revision


def _version(run: Run, revision: str) -> DataVersion:
    data = run.params.data
    return versions.resolve(data.repository, data.path, revision, cache=run.settings.data_cache)


def _student_of(run: Run, version: DataVersion) -> RegisteredVersion | None:
    """A run that ended between registration and decision, such as one that waited for a person, leaves none."""
    uri, name = run.settings.tracking_uri, run.params.registry.student
    return registry.find_by_tag(uri, name, MD5_TAG, version.md5, also=OUTCOME_TAG)
