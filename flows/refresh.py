"""Look for a new data version, and only then distil, judge and promote."""

from __future__ import annotations

from pathlib import Path

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.distill import distill
from flows.refresh_tasks import NOTHING_NEW, announce, look_for_data, refresh_name
from flows.tasks import AS_CONFIGURED, ONE_THREAD, open_run


@flow(name="refresh", flow_run_name=refresh_name, task_runner=ONE_THREAD, persist_result=False, retries=0)
def refresh(params_file: str = "params.yaml", overrides: list[str] | None = None) -> State:
    """Idempotent: a data version from which a student was made and judged is not distilled again.

    What is distilled is the newest version of `params.refresh`; those between it and the last are said and skipped.
    """
    run = open_run(Path(params_file), overrides or [], AS_CONFIGURED)
    found = look_for_data(run)
    if not found.is_new:
        return Completed(name=NOTHING_NEW, message=found.in_words())
    announce(run, found)
    revision = found.version.revision
    state = distill(params_file=params_file, overrides=overrides, data_rev=revision, return_state=True)
    return Completed(name=state.name, message=state.message, data=state.result())
