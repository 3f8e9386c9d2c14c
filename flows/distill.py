"""Distil one student from one teacher, and promote it if it earned it."""

from __future__ import annotations

from pathlib import Path

from prefect import flow
from prefect.client.schemas.objects import State

from flows.approval import approve
from flows.gate_tasks import judge, promote
from flows.tasks import (
    ONE_THREAD,
    conclude,
    keep_records,
    log_runs,
    open_run,
    register,
    report,
    run_name,
    step,
)


@flow(name="distill", flow_run_name=run_name, task_runner=ONE_THREAD, persist_result=False, retries=0)
def distill(
    params_file: str = "params.yaml", overrides: list[str] | None = None, data_rev: str = "as-configured"
) -> State:
    """Run the whole story on one data version.

    *overrides* are 'section.field=value'; *data_rev* overrides data.revision.
    """
    run = open_run(Path(params_file), overrides or [], data_rev)
    with keep_records(run):
        data = step(run, "data")
        step(run, "validate", after=[data])
        teacher = step(run, "teacher", after=[data])
        folds = step(run, "fold_teachers", after=[data])
        soft_targets = step(run, "soft_targets", after=[data, teacher, folds])
        baseline = step(run, "baseline", after=[data])
        student = step(run, "student", after=[data, teacher, folds, soft_targets])
        step(run, "evaluate", after=[data, teacher, baseline, student])
        step(run, "export", after=[student])
    runs = log_runs(run)
    versions = register(run, runs)
    judged = approve(run, judge(run, versions))
    # Written down before it takes effect: a kill in between promotes late, never without a record of why.
    pages = report(run, runs, versions, judged.decision)
    if judged.promotes:
        promote(run, judged)
    return conclude(run, runs, versions, judged.decision, pages)
