"""What a Prefect server does by itself: run a deployment by an event, tell people of its runs, mark runs that fell silent."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events import AutomationCore, DeploymentEventTrigger, EventTrigger
from prefect.events.actions import ActionTypes, ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import Posture
from prefect.exceptions import ObjectNotFound

from components.errors import BadInputError
from flows.approval import WAITING
from flows.deployments import FLOWS, SILENT
from flows.refresh_tasks import NOTHING_NEW
from flows.sweep_tasks import STATE_NAME
from flows.tasks import STATE_NAMES

if TYPE_CHECKING:
    from flows.deployments import TriggerParams

OWN_BLOCK = "custom-webhook/potstill"
"""The notification block that is made from POTSTILL_NOTIFY_URL."""
HEARTBEAT = "prefect.flow-run.heartbeat"
EVENTS: Mapping[str, set[str]] = {
    "failed": {"prefect.flow-run.Failed", "prefect.flow-run.TimedOut"},
    "crashed": {"prefect.flow-run.Crashed"},
    "refused": {f"prefect.flow-run.{STATE_NAMES['refuse']}"},
    "waiting": {WAITING},
}
"""What people can be told of."""
ENDED = ("{{ flow_run.state.name }}", "{{ flow_run.state.message }}")
WAITS = (
    "{{ event.resource.name }} version {{ event.payload.version }} waits for approval",
    "{{ event.payload.decision }}; resume the run to approve or refuse it",
)
LINK = "\n{{ flow_run|ui_url }}"
MAY_BE_SILENT = (
    *("Completed", "Failed", "TimedOut", "Crashed", "Cancelled", "Suspended"),
    *(*STATE_NAMES.values(), NOTHING_NEW, STATE_NAME),
)
"""States without a process that reports."""


class _Telling(DeploymentEventTrigger):
    """Tells people of events of the deployment that it is given to."""

    message: SendNotification

    def set_deployment_id(self, deployment_id: UUID) -> None:
        super().set_deployment_id(deployment_id)
        of: dict[str, str | list[str]] = {
            "prefect.resource.role": "deployment",
            "prefect.resource.id": f"prefect.deployment.{deployment_id}",
        }
        self.match_related = of

    def actions(self) -> list[ActionTypes]:
        return [self.message]


def run_by(deployment: str, wanted: TriggerParams) -> DeploymentEventTrigger:
    """What runs *deployment* when the event is seen."""
    return DeploymentEventTrigger(
        name=f"Potstill: {deployment} runs by {wanted.event}",
        expect={wanted.event},
        match=dict(wanted.match),
        parameters=dict(wanted.parameters) or None,
    )


def tell_of(what: str, deployment: str, block: UUID) -> DeploymentEventTrigger:
    """What sends a message about such runs of *deployment* through the notification block *block*."""
    subject, body = WAITS if what == "waiting" else ENDED
    message = SendNotification(block_document_id=block, subject=f"Potstill, {deployment}: {subject}", body=body + LINK)
    return _Telling(name=f"Potstill: tell of {what} runs of {deployment}", expect=EVENTS[what], message=message)


def notification_block(name: str | None, url: str) -> UUID | None:
    """The block *name* ('type/name'), or our own, made or renewed where there is an *url*.

    None where none is named and ours is not there. Raises BadInputError where the named one is not, or cannot notify.
    """
    if name is None and url:
        CustomWebhookNotificationBlock(
            name="potstill", url="{{url}}", json_data={"text": "{{subject}}\n{{body}}"}, secrets={"url": url}
        ).save(OWN_BLOCK.partition("/")[2], overwrite=True)
    found = _read_block(name or OWN_BLOCK)
    if found is None and name is not None:
        raise BadInputError(
            f"notify.block: the Prefect server has no block {name!r}; make it on its page Blocks, or leave "
            "notify.block out and set POTSTILL_NOTIFY_URL"
        )
    if found is not None and "notify" not in found.block_schema.capabilities:
        raise BadInputError(f"notify.block: {name!r} is no notification block, such as slack-webhook/NAME")
    return found.id if found else None


def _read_block(name: str) -> Any:
    slug, _, block = name.partition("/")
    with get_client(sync_client=True) as client:
        try:
            return client.read_block_document_by_name(block, slug, include_secrets=False)
        except ObjectNotFound:
            return None


def crash_silent_runs(after_seconds: int) -> None:
    """Have the server mark runs as Crashed whose heartbeats stopped for *after_seconds*, or never began: nothing else does.

    A run between Pending and Running has no heartbeat yet, and one that stays there blocks its deployment.
    """
    wanted = AutomationCore(
        name=SILENT,
        description="Its process is gone without a word, such as after a power cut. Renewed by `potstill deploy`.",
        trigger=EventTrigger(
            after={HEARTBEAT, "prefect.flow-run.Pending"},
            expect={HEARTBEAT, *(f"prefect.flow-run.{name}" for name in MAY_BE_SILENT)},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={"prefect.resource.role": "flow", "prefect.resource.name": list(FLOWS)},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=after_seconds),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED, message=f"its process has not been heard of for {after_seconds} s"
            )
        ],
    )
    with get_client(sync_client=True) as client:
        found = client.read_automations_by_name(SILENT)
        if found:
            client.update_automation(found[0].id, wanted)
        else:
            client.create_automation(wanted)
