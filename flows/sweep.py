"""Train many students from one set of soft targets, and say which values to take."""

from __future__ import annotations

from pathlib import Path

from prefect import flow
from prefect.client.schemas.objects import State

from flows.sweep_tasks import conclude, diagnose, log_trials, open_sweep, report, run_name, trials
from flows.tasks import ONE_THREAD, step


@flow(name="sweep", flow_run_name=run_name, task_runner=ONE_THREAD, persist_result=False, retries=0)
def sweep(
    params_file: str = "params.yaml", overrides: list[str] | None = None, data_rev: str = "as-configured"
) -> State:
    """Try what the section sweep asks for; selection reads the validation split, and the test split is never read.

    *overrides* are 'section.field=value'; *data_rev* overrides data.revision.
    """
    run = open_sweep(Path(params_file), overrides or [], data_rev)
    data = step(run, "data")
    step(run, "validate", after=[data])
    teacher = step(run, "teacher", after=[data])
    folds = step(run, "fold_teachers", after=[data])
    soft_targets = step(run, "soft_targets", after=[data, teacher, folds])
    found = trials(run, after=[data, teacher, folds, soft_targets])
    answers = diagnose(run, found)
    page = report(run, found, answers)
    logged = log_trials(run, found, answers, page)
    return conclude(found, answers, page, logged)
