"""The line of a flow that asks a person before a champion is replaced."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import replace
from threading import Event, Thread
from uuid import UUID

import httpx
from prefect import runtime
from prefect.events import emit_event
from prefect.exceptions import NotPausedError
from prefect.flow_runs import pause_flow_run, resume_flow_run
from prefect.input import RunInput

from components.contracts import Progress, Reason
from components.errors import InterruptedRunError
from flows.gate_tasks import Judged
from flows.run import Run

WAITING = "potstill.promotion.waiting"
"""The event of a candidate that passed the gate and now waits for a person."""
NOBODY = "nobody"
LOOK_SECONDS = 5
PREFECT_LATER_SECONDS = 600
"""How much longer Prefect waits: a run whose time is up fails there, and is refused here."""


class Approval(RunInput):
    """What a person answers."""

    approve: bool
    reason: str = ""
    who: str = ""


def approve(run: Run, judged: Judged) -> Judged:
    """Ask a person, where params.gate.approval_hours says so; nobody's answer in time is a refusal."""
    hours = run.params.gate.approval_hours
    if hours is None or not judged.promotes:
        return judged
    run.progress.say(
        f"{judged.decision.summary()}; waiting {hours:g} h for approval: resume this flow run in Prefect's UI"
    )
    _announce(judged, hours)
    return replace(judged, decision=judged.decision.with_reason(_asked(run.progress, hours)))


def _announce(judged: Judged, hours: float) -> None:
    """As an event of Prefect, by which a person can be told; it names the deployment, which a flow in a flow does not."""
    version, deployment = judged.candidate, runtime.deployment.id
    of = {"prefect.resource.id": f"prefect.deployment.{deployment}", "prefect.resource.role": "deployment"}
    emit_event(
        event=WAITING,
        resource={"prefect.resource.id": f"potstill.model.{version.name}", "prefect.resource.name": version.name},
        related=[of] if deployment else [],
        payload={"version": version.version, "decision": judged.decision.summary(), "hours": hours},
    )


def _asked(progress: Progress, hours: float) -> Reason:
    """A person's answer. The process waits, since Prefect suspends no flow that another flow runs, as refresh does.

    Raises InterruptedRunError once the user wants to stop.
    """
    with _answered_for_them(progress, hours):
        answer = pause_flow_run(
            wait_for_input=Approval,
            timeout=round(hours * 3600) + PREFECT_LATER_SECONDS,
            poll_interval=LOOK_SECONDS,
            key="promote",
        )
    progress.check()
    if answer.who == NOBODY:
        return Reason("approval", False, f"nobody approved it within {hours:g} h")
    name, why = answer.who or "somebody", f": {answer.reason}" if answer.reason else ""
    return Reason("approval", answer.approve, f"{name} {'approved' if answer.approve else 'refused'} it{why}")


@contextmanager
def _answered_for_them(progress: Progress, hours: float) -> Iterator[None]:
    """Answer no where the person did not within *hours*, or the user does not want to wait: Prefect looks at neither."""
    over, until = Event(), time.monotonic() + hours * 3600
    watch = Thread(
        target=copy_context().run, args=(_watch, over, until, progress, UUID(runtime.flow_run.id)), daemon=True
    )
    watch.start()
    try:
        yield
    finally:
        over.set()


def _watch(over: Event, until: float, progress: Progress, flow_run_id: UUID) -> None:
    """Again and again until it is *over*, since the server may be away at the first time."""
    while not over.wait(1):
        if time.monotonic() >= until or _wants_to_stop(progress):
            with suppress(NotPausedError, httpx.HTTPError):
                resume_flow_run(flow_run_id, run_input={"approve": False, "who": NOBODY})


def _wants_to_stop(progress: Progress) -> bool:
    try:
        progress.check()
    except InterruptedRunError:
        return True
    return False
