"""Schedules: the deployments of infra/prefect.yaml, on a Prefect server or in one process."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from components.contracts import Frozen
from components.errors import BadInputError, ServerError

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.deployments.runner import RunnerDeployment
    from prefect.schedules import Schedule

ROOT = Path(__file__).resolve().parents[1]
FILE = Path("infra/prefect.yaml")


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


class DeploymentParams(Frozen):
    """A flow that runs by itself; while one run goes on, the next is cancelled."""

    name: str = Field(min_length=1)
    flow: Literal["refresh", "distill"] = "refresh"
    schedules: tuple[ScheduleParams, ...] = ()
    parameters: Mapping[str, Any] = Field(default_factory=dict)
    tags: tuple[str, ...] = ()


class DeploymentsParams(Frozen):
    """The whole file."""

    work_pool: str = "potstill"
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


def deploy(file: Path) -> list[str]:
    """Create or renew every deployment, and the work pool; returns their names. ServerError where Prefect does not answer."""
    import httpx

    wanted = read_deployments(file)
    try:
        _ensure_pool(wanted.work_pool)
        return [_deploy_one(each, wanted.work_pool) for each in wanted.deployments]
    except httpx.HTTPError as error:
        raise ServerError(
            f"Prefect does not answer: {error}; `potstill up` starts a local one, or set PREFECT_API_URL"
        ) from error


def serve(file: Path) -> None:
    """Run what is due in this process until Ctrl-C, which pauses the schedules."""
    from prefect import serve as prefect_serve

    prefect_serve(*(_deployment(_flow(each.flow), each) for each in read_deployments(file).deployments))


def _ensure_pool(name: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists

    with get_client(sync_client=True) as client, contextlib.suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=name, type="process"))


def _deploy_one(wanted: DeploymentParams, pool: str) -> str:
    from prefect.flows import Flow

    found: Any = Flow.from_source(source=str(ROOT), entrypoint=f"flows/{wanted.flow}.py:{wanted.flow}")
    deployment = _deployment(found, wanted, work_pool_name=pool)
    deployment.apply(work_pool_name=pool)
    return f"{wanted.flow}/{wanted.name}"


def _deployment(flow: Flow[..., Any], wanted: DeploymentParams, **more: Any) -> RunnerDeployment:
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy

    alone = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
    made: Any = flow.to_deployment(
        name=wanted.name,
        schedules=_schedules(wanted.schedules),
        concurrency_limit=alone,
        parameters=dict(wanted.parameters),
        tags=list(wanted.tags),
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
