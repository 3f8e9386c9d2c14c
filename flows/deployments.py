"""Schedules and events: the deployments of infra/prefect.yaml, on a Prefect server or in one process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import yaml
from pydantic import Field, ValidationError, model_validator

from components.contracts import Frozen
from components.errors import BadInputError, ServerError

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.deployments.runner import RunnerDeployment
    from prefect.events import DeploymentEventTrigger
    from prefect.schedules import Schedule

ROOT = Path(__file__).resolve().parents[1]
FILE = Path("infra/prefect.yaml")
FLOWS = ("refresh", "distill", "promote", "sweep")
SILENT = "Potstill: a run that fell silent is Crashed"
"""The automation that marks them."""


class ScheduleParams(Frozen):
    """When a deployment runs."""

    cron: str | None = Field(None, description="such as '0 3 * * *'")
    interval_seconds: int | None = Field(None, ge=10, description="or so often")
    rrule: str | None = Field(None, description="or by an RFC 5545 rule")
    timezone: str = Field("UTC", description="in which the clock of cron and rrule stands")

    @model_validator(mode="after")
    def _one_kind(self) -> ScheduleParams:
        if sum(each is not None for each in (self.cron, self.interval_seconds, self.rrule)) != 1:
            raise ValueError("needs exactly one of cron, interval_seconds, rrule")
        return self


class TriggerParams(Frozen):
    """An event of the Prefect server by which a deployment runs, beside its schedules."""

    event: str = Field(min_length=1, description="its name; a * at the end stands for anything")
    match: Mapping[str, str] = Field(default_factory=dict, description="labels that its resource must have")
    parameters: Mapping[str, Any] = Field(
        default_factory=dict,
        description="of this run, over those of the deployment; templates such as '{{ event.payload.revision }}'",
    )


class NotifyParams(Frozen):
    """Whom Prefect tells of runs of these deployments."""

    block: str | None = Field(
        None,
        pattern="^[a-z0-9-]+/[a-z0-9-]+$",
        description="a notification block of the server, type/name; null: the one made from POTSTILL_NOTIFY_URL, if any",
    )
    about: tuple[Literal["failed", "crashed", "refused", "waiting"], ...] = Field(
        ("failed", "crashed", "refused", "waiting"), description="waiting: for a person's approval"
    )


class DeploymentParams(Frozen):
    """A flow that runs by itself; while one run goes on, the next is cancelled."""

    name: str = Field(min_length=1)
    flow: Literal["refresh", "distill"] = "refresh"
    schedules: tuple[ScheduleParams, ...] = ()
    triggers: tuple[TriggerParams, ...] = ()
    parameters: Mapping[str, Any] = Field(default_factory=dict)
    tags: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        return f"{self.flow}/{self.name}"


class DeploymentsParams(Frozen):
    """The whole file."""

    work_pool: str = "potstill"
    notify: NotifyParams = NotifyParams()
    crash_after_seconds: int = Field(
        600,
        ge=10,
        description="of silence; runs report every PREFECT_FLOWS_HEARTBEAT_FREQUENCY seconds (180), so some more than that",
    )
    deployments: tuple[DeploymentParams, ...] = Field(min_length=1)


def read_deployments(file: Path) -> DeploymentsParams:
    """BadInputError lists every problem."""
    try:
        return DeploymentsParams.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        raise BadInputError(f"{file} cannot be read: {error}") from error
    except ValidationError as error:
        problems = [f"  {'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        raise BadInputError(f"{file} has {len(problems)} problems:\n" + "\n".join(problems)) from error


def deploy(file: Path, notify_url: str = "") -> list[str]:
    """Create or renew everything that the file asks for; returns what was done, in lines for people.

    *notify_url* is where messages go that name no block. ServerError where Prefect does not answer.
    """
    wanted = read_deployments(file)
    with _an_answer_from_prefect():
        block = _automate(wanted, notify_url)
        _ensure_pool(wanted.work_pool)
        made = [_deploy_one(each, wanted.work_pool, _triggers(each, wanted, block)) for each in wanted.deployments]
    return [*(f"deployed {name}" for name in made), *_in_words(wanted, block)]


def serve(file: Path, notify_url: str = "") -> None:
    """Run what is due in this process until Ctrl-C, which pauses the schedules."""
    from prefect import serve as prefect_serve

    wanted = read_deployments(file)
    with _an_answer_from_prefect():
        block = _automate(wanted, notify_url)
    prefect_serve(*(_deployment(_flow(each.flow), each, _triggers(each, wanted, block)) for each in wanted.deployments))


@contextmanager
def _an_answer_from_prefect() -> Iterator[None]:
    import httpx

    try:
        yield
    except httpx.HTTPError as error:
        raise ServerError(
            f"Prefect does not answer: {error}; `potstill up` starts a local one, or set PREFECT_API_URL"
        ) from error


def _automate(wanted: DeploymentsParams, notify_url: str) -> UUID | None:
    """What belongs to no single deployment; the block through which people are told, where there is one."""
    from flows.automations import crash_silent_runs, notification_block

    block = notification_block(wanted.notify.block, notify_url)
    crash_silent_runs(wanted.crash_after_seconds)
    return block


def _in_words(wanted: DeploymentsParams, block: UUID | None) -> Iterator[str]:
    yield f"a run that is silent for {wanted.crash_after_seconds:,} s is marked Crashed"
    if block is None:
        yield "nobody is told of runs: POTSTILL_NOTIFY_URL is not set, and notify names no block"
    else:
        yield f"{wanted.notify.block or 'POTSTILL_NOTIFY_URL'} is told of runs that are: {', '.join(wanted.notify.about)}"


def _ensure_pool(name: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists

    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=name, type="process"))


def _triggers(
    wanted: DeploymentParams, everything: DeploymentsParams, block: UUID | None
) -> list[DeploymentEventTrigger]:
    """Automations that belong to one deployment: they are renewed, and go, with it."""
    from flows.automations import run_by, tell_of

    told = [tell_of(what, wanted.full_name, block) for what in everything.notify.about] if block else []
    return [*(run_by(wanted.full_name, each) for each in wanted.triggers), *told]


def _deploy_one(wanted: DeploymentParams, pool: str, triggers: Sequence[DeploymentEventTrigger]) -> str:
    from prefect.flows import Flow

    found: Any = Flow.from_source(source=str(ROOT), entrypoint=f"flows/{wanted.flow}.py:{wanted.flow}")
    deployment = _deployment(found, wanted, triggers, work_pool_name=pool)
    deployment.apply(work_pool_name=pool)
    return wanted.full_name


def _deployment(
    flow: Flow[..., Any], wanted: DeploymentParams, triggers: Sequence[DeploymentEventTrigger], **more: Any
) -> RunnerDeployment:
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy

    alone = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
    made: Any = flow.to_deployment(
        name=wanted.name,
        schedules=_schedules(wanted.schedules),
        concurrency_limit=alone,
        parameters=dict(wanted.parameters),
        tags=list(wanted.tags),
        triggers=list(triggers),
        **more,
    )
    return made


def _schedules(wanted: Sequence[ScheduleParams]) -> list[Schedule]:
    from prefect.schedules import Cron, Interval, RRule

    made = []
    for each in wanted:
        if each.cron is not None:
            made.append(Cron(each.cron, timezone=each.timezone))
        elif each.interval_seconds is not None:
            made.append(Interval(timedelta(seconds=each.interval_seconds), timezone=each.timezone))
        else:
            made.append(RRule(str(each.rrule), timezone=each.timezone))
    return made


def _flow(name: str) -> Flow[..., Any]:
    import importlib

    found: Flow[..., Any] = getattr(importlib.import_module(f"flows.{name}"), name)
    return found
