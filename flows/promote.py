"""Put one registered version through the gate, and promote it if it earned it."""

from __future__ import annotations

from pathlib import Path

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.approval import approve
from flows.gate_tasks import Judged, judge_version, promote, promote_by_force, registered
from flows.tasks import ONE_THREAD, STATE_NAMES, open_run, step


@flow(name="promote", task_runner=ONE_THREAD, persist_result=False, retries=0)
def promote_version(
    version: str,
    params_file: str = "params.yaml",
    overrides: list[str] | None = None,
    data_rev: str = "as-configured",
    force_reason: str = "",
) -> State[Judged]:
    """Judge *version* of the student on the holdout of the data, as a run judges its own.

    With *force_reason*, the gate's refusal is written down and overruled.
    """
    run = open_run(Path(params_file), overrides or [], data_rev)
    chosen = registered(run, version)
    data = step(run, "data")
    step(run, "validate", after=[data])
    judged = approve(run, judge_version(run, chosen))
    if judged.promotes:
        promote(run, judged)
    elif force_reason and judged.decision.outcome == "refuse":
        promote_by_force(run, judged, force_reason)
    return Completed(name=STATE_NAMES[judged.decision.outcome], message=judged.decision.summary(), data=judged)
