"""What a flow's lines stand for: each is one Prefect task around plain functions of components/."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import get_client, runtime, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.tasks import exponential_backoff
from prefect.utilities.annotations import quote

from components import records, registry, tracking
from components.artifacts import ledger
from components.artifacts.ledger import Saved, Saving
from components.data.packed import open_packed
from components.errors import PotstillError, ServerError
from components.gate import Decision
from components.promotion.transaction import CHAMPION
from components.registry import RegisteredVersion
from components.report.data import ReportData, StepRecord
from components.settings import turn_telemetry_off
from components.steps.execute import Outcome
from components.steps.pipeline import ancestors, load_step
from components.tracking import ProjectedRuns
from flows import run as runs
from flows.run import Run
from flows.servers import running_tracking_uri

AS_CONFIGURED = "as-configured"
TEACHER_URIS_TAG = "teacher.uris"
"""JSON list of the registered models that taught, each pinned to a version."""
# OpenMP keeps a team of threads for every thread that has ever computed, and two teams on the same cores hinder each
# other: training took a quarter longer when each task had a thread of its own.
ONE_THREAD: Any = ThreadPoolTaskRunner(max_workers=1)
EXIT_CODES = {"promote": 0, "already_champion": 0, "refuse": 3}
OUTCOME_TAG = "gate.outcome"
"""Of a version whose run came to its end: what was decided has taken effect."""
STATE_NAMES = {"promote": "Promoted", "already_champion": "AlreadyChampion", "refuse": "Refused"}


@dataclass(frozen=True, slots=True)
class Versions:
    """The registered versions of this run's two models."""

    student: RegisteredVersion
    teacher: RegisteredVersion | None
    """None for one that cannot become a program, such as a black box."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run of `distill` came to; JSON-able."""

    decision: Decision
    student: RegisteredVersion
    teacher: RegisteredVersion | None
    run_url: str
    report: str
    evaluation_key: str
    digests: Mapping[str, str]
    cached: Mapping[str, bool]
    saved: Saved

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.decision.outcome]


def is_transient(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Retry what may pass by itself: a server that does not answer, a broken connection; never a refusal or bad input."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, ServerError | ConnectionError | TimeoutError)


def run_name() -> str:
    """distill-<data revision>-<four digits of the run's own id>: unique enough to be a producer's name."""
    parameters, run_id = runtime.flow_run.parameters or {}, str(runtime.flow_run.id or "")
    return f"distill-{parameters.get('data_rev', AS_CONFIGURED)}-{run_id[-4:]}"


retried = task(
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=2,
    retry_delay_seconds=exponential_backoff(2),
    retry_jitter_factor=0.5,
    retry_condition_fn=is_transient,
)


def submit(
    run: Run, name: str, function: Callable[..., Any], *arguments: Any, after: Sequence[str], about: str | None = None
) -> Any:
    """The result of *function*, run as the task *name*; *after* are the tasks that Prefect draws arrows from.

    Arguments are quoted: Prefect would look through all they hold, and draw an arrow from every task that touched it.
    """
    named = retried(function).with_options(name=name, task_run_name=name, description=about)
    waits = [run.tasks[earlier] for earlier in after]
    future = run.tasks[name] = named.submit(*map(quote, (run, *arguments)), wait_for=waits)
    return future.result()


def open_run(params_file: Path, overrides: Sequence[str], data_rev: str) -> Run:
    """Everything that can be wrong before the first step is said here: parameters, store, tracking server.

    A scheduled run has no command line before it: vendors' telemetry is turned off and the local MLflow found here too.
    """
    turn_telemetry_off()
    revision = () if data_rev == AS_CONFIGURED else (f"data.revision={data_rev!r}",)
    run = runs.open_run(params_file, (*overrides, *revision), name=runtime.flow_run.name or "distill")
    tracking_uri = running_tracking_uri(run.settings)
    tracking.probe(tracking_uri)
    return replace(run, settings=run.settings.model_copy(update={"tracking_uri": tracking_uri}))


@contextmanager
def keep_records(run: Run) -> Iterator[None]:
    """When a step fails or is refused, the steps before it are logged all the same."""
    try:
        yield
    except PotstillError as error:
        if "data" in run.outcomes:
            _project_failure(run, str(error))
        raise


def _project_failure(run: Run, failure: str) -> None:
    """What cannot be logged either must not hide why the step failed."""
    try:
        _project(run, status="FAILED", failure=failure)
    except (PotstillError, OSError) as error:
        run.progress.say(f"the steps before it could not be logged: {error}")


def step(run: Run, name: str, *, after: Sequence[Outcome] = ()) -> Outcome:
    """One step as a task of its own name; *after* are the steps that it stands on."""
    upstream = [outcome.step for outcome in after]
    outcome: Outcome = submit(run, name, _step, name, after=upstream, about=load_step(name).title)
    return outcome


def _step(run: Run, name: str) -> Any:
    outcome = run.step(name)
    if (saving := _saving(run, outcome)) is not None:
        ledger.record(run.store.storage.root, saving)
    how = f"cached, made by {outcome.producer}" if outcome.cached else f"computed in {outcome.seconds:.1f} s"
    get_run_logger().info("%s %s: %s", name, outcome.artifact.digest[:12], how)
    if outcome.cached:
        return Completed(name="Cached", message=f"made by {outcome.producer}", data=outcome)
    return outcome


def _saving(run: Run, outcome: Outcome) -> Saving | None:
    return ledger.saving_of(outcome.artifact, hit=outcome.cached, run=run.name)


def saved_by(run: Run) -> Saved:
    """What the store saved this run so far."""
    found = (_saving(run, outcome) for outcome in run.outcomes.values())
    return ledger.total(saving for saving in found if saving is not None)


def log_runs(run: Run) -> ProjectedRuns:
    """A parent run with a child for each step, wherever MLflow does not have them yet."""
    logged: ProjectedRuns = submit(run, "log", _project, after=tuple(run.outcomes))
    return logged


def _project(run: Run, *, status: records.Status = "FINISHED", failure: str = "") -> ProjectedRuns:
    lineage = lineage_of(run)
    children = [
        records.step_record(outcome.artifact, lineage, draw=_drawing(run, name))
        for name, outcome in run.shown().items()
    ]
    params = run.params.model_dump(mode="json", exclude={"sweep", "refresh"})
    note = _note(run) if "evaluate" in run.outcomes else ""
    parent = records.parent_record(run.name, children, lineage, params, status=status, failure=failure, note=note)
    logged = tracking.project_run(
        run.settings.tracking_uri, run.params.registry.experiment, parent, children, lock_dir=_locks(run)
    )
    _log_savings(run, logged.parent_run_id)
    return logged


def _log_savings(run: Run, run_id: str) -> None:
    """Running totals, since a flow run that finds everything finds its MLflow run again too."""
    saved = saved_by(run)
    amounts = {
        "cache/seconds_saved": saved.seconds,
        "cache/teacher_rows_saved": float(saved.teacher_rows),
        "cache/bytes_reused": float(saved.num_bytes),
    }
    once, now_ms = str(runtime.flow_run.id or run.name), time.time_ns() // 1_000_000
    if saved:
        tracking.add_to_totals(
            run.settings.tracking_uri, run_id, amounts, once=once, at_ms=now_ms, lock_dir=_locks(run)
        )


def _note(run: Run) -> str:
    from components.report.page import to_markdown

    return to_markdown(report_data(run))


def _drawing(run: Run, name: str) -> Callable[[Path], None] | None:
    """What draws the plots of the evaluation, once MLflow turns out not to have them."""

    def draw(folder: Path) -> None:
        from components.report.page import write_plots

        write_plots(folder / "plots", report_data(run))

    return draw if name == "evaluate" else None


def lineage_of(run: Run) -> records.Lineage:
    code = runs.code_version()
    facts = {
        "code.commit": code.commit,
        "code.dirty": str(code.dirty).lower(),
        "params.sha256": runs.params_digest(run.params),
        "flow_run.id": str(runtime.flow_run.id or ""),
        "flow_run.name": run.name,
        "flow_run.deployment": str(runtime.deployment.name or ""),
        "flow_run.trigger": _trigger(str(runtime.flow_run.root_flow_run_id or "")),
        "flow_run.who": runs.who(),
        "lock.sha256": runs.lock_digest(),
        **_pinned_teachers(run),
    }
    notes = run.outcomes["data"].notes
    artifacts = {name: outcome.artifact for name, outcome in run.shown().items()}
    return records.lineage_of(artifacts, notes, facts, data_name=run.params.data.path)


def _pinned_teachers(run: Run) -> dict[str, str]:
    """What the aliases in params.teacher stood for, in their order: they may stand elsewhere tomorrow."""
    notes = run.outcomes["teacher"].notes if "teacher" in run.outcomes else {}
    uris = [found["teacher_uri"] for found in notes.get("members", [notes]) if "teacher_uri" in found]
    return {TEACHER_URIS_TAG: json.dumps(uris)} if uris else {}


@cache
def _trigger(flow_run_id: str) -> str:
    """What made Prefect create the run: 'schedule ...' or 'automation ...'; '' where a person or a program did."""
    if not flow_run_id:
        return ""
    with get_client(sync_client=True) as client:
        creator = client.read_flow_run(UUID(flow_run_id)).created_by
    return f"{(creator.type or '').lower()} {creator.display_value}".strip() if creator else ""


def _locks(run: Run) -> Path:
    return run.settings.var_dir / "locks"


def register(run: Run, logged: ProjectedRuns) -> Versions:
    """Teacher and student as versions in the registry, found again by digest."""
    versions: Versions = submit(run, "register", _register, logged, after=["log"])
    return versions


def _register(run: Run, logged: ProjectedRuns) -> Versions:
    from components.exportable import can_be_exported

    names, data = run.params.registry, report_data(run)
    students = records.name_note(names.student, f"Students of `{names.teacher}`", CHAMPION)
    teachers = records.name_note(names.teacher, f"Teachers of `{names.student}`")
    return Versions(
        student=_register_one(run, logged, "student", names.student, about=students, note=records.student_note(data)),
        teacher=_register_one(run, logged, "teacher", names.teacher, about=teachers, note=records.teacher_note(data))
        if can_be_exported(run.artifacts()["teacher"])
        else None,
    )


def _register_one(
    run: Run, logged: ProjectedRuns, step_name: str, model_name: str, *, about: str, note: str
) -> RegisteredVersion:
    artifacts = run.artifacts()
    spec = open_packed(artifacts["data"]).spec
    return registry.register_model(
        run.settings.tracking_uri,
        name=model_name,
        artifact=artifacts[step_name],
        run_id=logged.children[step_name],
        sample_shape=spec.sample_shape,
        sample_dtype=spec.sample_dtype,
        tags=_version_tags(run, step_name),
        lock_dir=_locks(run),
        metadata={
            "target_names" if spec.target_names else "class_names": list(spec.output_names),
            registry.PARAMETERS: run.params.model_dump(mode="json", exclude={"sweep", "refresh"}),
        },
        about=about,
        note=note,
    )


def _version_tags(run: Run, step_name: str) -> dict[str, str]:
    """The lineage without the steps that this model does not stand on."""
    # Those by whom it was judged are part of its story, though not of its making.
    others = set(run.outcomes) - {step_name, "validate", "evaluate", *ancestors(step_name)}
    return {name: value for name, value in lineage_of(run).tags.items() if name.partition(".")[0] not in others}


def report(run: Run, logged: ProjectedRuns, versions: Versions, decision: Decision) -> Path:
    """The report as a page under var/, in MLflow beside the decision, and as Prefect artifacts."""
    page: Path = submit(run, "report", _report, logged, versions, decision, after=["gate"])
    return page


def _report(run: Run, logged: ProjectedRuns, versions: Versions, decision: Decision) -> Path:
    student_url = registry.version_url(run.settings.tracking_uri, versions.student)
    data = report_data(run, decision, links={"MLflow run": logged.url, "student": student_url})
    folder = run.settings.var_dir / "reports" / f"{data.evaluation.digest[:12]}-{decision.outcome}"
    gate = records.decision_record(data, lineage_of(run), draw=lambda target: _copy_report(folder, target))
    page = _write_once(folder, data)
    tracking.project_child(
        run.settings.tracking_uri, run.params.registry.experiment, logged.parent_run_id, gate, lock_dir=_locks(run)
    )
    _show_in_prefect(run, data, logged.url)
    return page


def _write_once(folder: Path, data: ReportData) -> Path:
    """The same evaluation and decision make the same report, so one that is there is left alone."""
    from components.report.page import PAGE, write_report

    page = folder / PAGE
    return page if page.exists() else write_report(folder, data)


def _show_in_prefect(run: Run, data: ReportData, url: str) -> None:
    from components.report.page import to_markdown

    if not runtime.flow_run.id:
        return
    create_markdown_artifact(key="distill-report", markdown=to_markdown(data), description=run.name)
    if data.decision:
        create_table_artifact(key="gate", table=data.decision.rows(), description=data.decision.summary())
    if url:
        create_link_artifact(key="mlflow-run", link=url, link_text="MLflow run", description=run.name)


def _copy_report(folder: Path, target: Path) -> None:
    import shutil

    shutil.copytree(folder, target, dirs_exist_ok=True)


def report_data(run: Run, decision: Decision | None = None, links: Mapping[str, str] | None = None) -> ReportData:
    """What a report is made from."""
    return ReportData(
        artifacts=run.artifacts(),
        params=run.params,
        decision=decision,
        lineage=lineage_of(run).tags,
        steps=[_step_record(outcome) for outcome in run.shown().values()],
        links={text: link for text, link in (links or {}).items() if link},
    )


def _step_record(outcome: Outcome) -> StepRecord:
    cost = outcome.artifact.manifest().cost
    return StepRecord(outcome.step, outcome.cached, outcome.producer, outcome.seconds, float(cost.get("seconds", 0)))


def conclude(run: Run, logged: ProjectedRuns, versions: Versions, decision: Decision, page: Path) -> State[Verdict]:
    """The flow's final state: its name is what was decided, which the student's version is told too."""
    registry.set_tag(run.settings.tracking_uri, versions.student, OUTCOME_TAG, decision.outcome)
    verdict = Verdict(
        decision=decision,
        student=versions.student,
        teacher=versions.teacher,
        run_url=logged.url,
        report=str(page),
        evaluation_key=run.artifacts()["evaluate"].key,
        digests={name: artifact.digest for name, artifact in run.artifacts().items()},
        cached={name: outcome.cached for name, outcome in run.outcomes.items()},
        saved=saved_by(run),
    )
    return Completed(name=STATE_NAMES[decision.outcome], message=decision.summary(), data=verdict)
