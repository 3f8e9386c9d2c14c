"""What the lines of the flow `sweep` stand for: each is one Prefect task around plain functions of components/."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import runtime
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from components import tracking
from components.errors import ServerError
from components.settings import turn_telemetry_off
from components.steps.execute import Outcome
from components.sweeps import page as pages
from components.sweeps.conduct import Sweep, conduct, folder_of
from components.sweeps.diagnostics import Diagnosis
from components.sweeps.diagnostics import diagnose as ask
from components.sweeps.records import sweep_record, trial_records
from components.sweeps.results import SweepResult
from components.sweeps.space import refuse_other_rows, refuse_unfit
from flows import run as runs
from flows.run import Run
from flows.servers import running_tracking_uri
from flows.tasks import AS_CONFIGURED, lineage_of, submit

STATE_NAME = "Swept"


@dataclass(frozen=True, slots=True)
class Swept:
    """What a run of `sweep` came to."""

    result: SweepResult
    diagnoses: Sequence[Diagnosis]
    report: Path
    run_url: str
    """Empty where MLflow did not answer, or shows no pages."""


def run_name() -> str:
    """sweep-<data revision>-<four digits of the run's own id>."""
    parameters, run_id = runtime.flow_run.parameters or {}, str(runtime.flow_run.id or "")
    return f"sweep-{parameters.get('data_rev', AS_CONFIGURED)}-{run_id[-4:]}"


def open_sweep(params_file: Path, overrides: Sequence[str], data_rev: str) -> Run:
    """Everything that can be wrong before the first step is said here; an MLflow that is down is no reason to wait."""
    turn_telemetry_off()
    revision = () if data_rev == AS_CONFIGURED else (f"data.revision={data_rev!r}",)
    run = runs.open_run(params_file, (*overrides, *revision), name=runtime.flow_run.name or "sweep")
    refuse_unfit(run.params)
    return run


def trials(run: Run, *, after: Sequence[Outcome]) -> SweepResult:
    """Every student that is asked for, found or trained in processes of their own."""
    result: SweepResult = submit(run, "trials", _trials, after=[outcome.step for outcome in after])
    return result


def _trials(run: Run) -> SweepResult:
    refuse_other_rows(run.params, run.artifacts()["data"], run.settings, run.store)
    return conduct(_sweep(run))


def _sweep(run: Run) -> Sweep:
    return Sweep(
        params=run.params,
        settings=run.settings,
        store=run.store,
        artifacts=run.artifacts(),
        title=run.params_file.stem,
        producer=run.name,
        progress=run.progress,
    )


def diagnose(run: Run, found: SweepResult) -> Sequence[Diagnosis]:
    """T, the teacher and the student's size, asked of the recommended trial."""
    answers: Sequence[Diagnosis] = submit(run, "diagnose", _diagnose, found, after=["trials"])
    return answers


def _diagnose(run: Run, found: SweepResult) -> Sequence[Diagnosis]:
    return ask(_sweep(run), found)


def report(run: Run, found: SweepResult, answers: Sequence[Diagnosis]) -> Path:
    """The page, its pictures and sweep.json below var/sweeps/."""
    page: Path = submit(run, "report", _report, found, answers, after=["diagnose"])
    return page


def _report(run: Run, found: SweepResult, answers: Sequence[Diagnosis]) -> Path:
    params = run.params
    subtitle = (
        f"{params.data.path} at {params.data.revision} · teacher {params.teacher.model.name}, student "
        f"{params.student.model.name} · objective {params.student.objective.in_words()} where nothing else is said"
    )
    page = pages.write_sweep(folder_of(run.settings, found.name), found, answers, subtitle=subtitle)
    if runtime.flow_run.id:
        markdown = pages.to_markdown(found, answers)
        create_markdown_artifact(key="sweep-report", markdown=markdown, description=run.name)
    return page


def log_trials(run: Run, found: SweepResult, answers: Sequence[Diagnosis], page: Path) -> str:
    """A nested run for each student, wherever MLflow does not have it yet; '' if it does not answer."""
    url: str = submit(run, "log", _log, found, answers, page, after=["report"])
    return url


def _log(run: Run, found: SweepResult, answers: Sequence[Diagnosis], page: Path) -> str:
    """The trials lie in the store whatever MLflow does, so the same command logs them another time."""
    try:
        uri = running_tracking_uri(run.settings)
        tracking.probe(uri)
        return _project(run, found, answers, page, uri)
    except ServerError as error:
        run.progress.say(f"not logged to MLflow, the same command does it another time: {error}")
        return ""


def _project(run: Run, found: SweepResult, answers: Sequence[Diagnosis], page: Path, uri: str) -> str:
    sweep, lineage = _sweep(run), lineage_of(run)
    note = pages.to_markdown(found, answers)
    parent = sweep_record(sweep, found, lineage, note=note, draw=lambda target: _copy_pages(page.parent, target))
    children = list(trial_records(sweep, found, lineage))
    locks = run.settings.var_dir / "locks"
    return tracking.project_run(uri, run.params.registry.experiment, parent, children, lock_dir=locks).url


def _copy_pages(folder: Path, target: Path) -> None:
    for path in (*folder.glob("*.png"), folder / pages.PAGE, folder / pages.RESULT):
        shutil.copy(path, target)


def conclude(found: SweepResult, answers: Sequence[Diagnosis], page: Path, run_url: str) -> State[Any]:
    """The flow's final state says what is recommended."""
    swept = Swept(found, answers, page, run_url)
    return Completed(name=STATE_NAME, message=pages.headline(found), data=swept)
