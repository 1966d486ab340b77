"""Prefect automations: mark runs without a heartbeat as crashed, and notify a webhook of failures.

For a team's server, once: PREFECT_API_URL=... TUNESMITH_NOTIFY=https://... python -m deployments.up.automations
"""

import os
from datetime import timedelta
from typing import TYPE_CHECKING, cast
from uuid import UUID

import typer

from pipeline_lib.cli.console import fail
from pipeline_lib.errors import RecipeError

if TYPE_CHECKING:
    from prefect.events.schemas.automations import AutomationCore, EventTrigger

NOTIFY = "TUNESMITH_NOTIFY"
HEARTBEAT = 30
"""Seconds between a run's heartbeats, the minimum that Prefect accepts. After three missing ones the run is crashed."""
PATIENCE = 10
"""Seconds in which a crash may still become a cancellation or be retried, the minimum that Prefect accepts."""
RUN = "prefect.flow-run."
VERDICTS = ("Promoted", "Refused", "Blocked", "Nothing to do")
ENDED = ("Completed", "Failed", "Cancelled", "Crashed", *VERDICTS)
"""Names of final states, including the verdicts of a retraining."""
OURS = "prefect.tag.tunesmith"
"""Tag of the runs whose workers send heartbeats; runs of other projects or from a terminal may not send any."""
NOTIFIED = ("Failed", "Refused", "Blocked")
"""Names of states; the last two are a retraining's."""
TEXT = (
    '{"text": {{ (flow_run.name ~ ": " ~ event.payload.validated_state.name ~ ". " '
    '~ (event.payload.validated_state.message or "") ~ " " ~ (flow_run | ui_url)) | tojson }}}'
)
"""The message for Slack, Mattermost and similar webhooks: a decision's reason, or an error with secrets redacted."""


def check(notify: str) -> None:
    """Raise RecipeError if a webhook's address is invalid, without showing it, since it is a secret."""
    if notify and not notify.startswith(("http://", "https://")):
        raise RecipeError("--notify", None, "must be a webhook URL", "Give a URL that starts with https://")


def automate(notify: str) -> None:
    """Create or update the automations.

    Args:
        notify: A webhook's address; if empty, notifications stay as they are.
    """
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        for wanted in (_crash_automation(), *(_notifications(notify) if notify else ())):
            existing = client.read_automations_by_name(wanted.name)
            for automation in existing:
                if _differs(automation, wanted):
                    client.update_automation(automation.id, wanted)
            if not existing:
                client.create_automation(wanted)


def _differs(existing: "AutomationCore", wanted: "AutomationCore") -> bool:
    """Return whether an automation must be updated.

    At each update, Prefect forgets which runs have sent a heartbeat. If a machine went down and registers its
    automations again when it restarts, its earlier runs would stay Running forever.
    """
    return existing.model_dump(include=set(type(wanted).model_fields)) != wanted.model_dump()


def _crash_automation() -> "AutomationCore":
    """Return the automation that marks a run without a heartbeat as crashed, so that it can be retried."""
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore
    from prefect.events.schemas.events import ResourceSpecification

    sign = f"{RUN}heartbeat"
    said = "No heartbeat: its worker is gone."
    crash = ChangeFlowRunState(state=StateType.CRASHED, name="Crashed", message=said, force=False)
    trigger = _missing_event_trigger(sign, {sign, *(RUN + state for state in ENDED)}, 3 * HEARTBEAT)
    trigger.match_related = ResourceSpecification({"prefect.resource.id": [OURS]})
    return AutomationCore(
        name="tunesmith: a run without a sign of life has crashed",
        trigger=trigger,
        actions=[crash],
    )


def _notifications(notify: str) -> "list[AutomationCore]":
    """Return the automations that notify of failed or crashed runs and of refused or blocked promotions."""
    from prefect.blocks.webhook import Webhook
    from prefect.events.actions import CallWebhook
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification
    from pydantic import SecretStr

    block = cast(UUID, Webhook(url=SecretStr(notify)).save("tunesmith-notify", overwrite=True))
    call = CallWebhook(block_document_id=block, payload=TEXT)
    related = ResourceSpecification({"prefect.resource.id": ["prefect.deployment.*"]})  # not a run's child runs
    failed = EventTrigger(
        match=ResourceSpecification({"prefect.resource.id": [f"{RUN}*"]}),
        match_related=related,
        for_each={"prefect.resource.id"},
        expect={RUN + state for state in NOTIFIED},
        posture=Posture.Reactive,
        threshold=1,
        within=timedelta(0),
    )
    crashed = _missing_event_trigger(f"{RUN}Crashed", {f"{RUN}Cancelled", f"{RUN}AwaitingRetry"}, PATIENCE)
    crashed.match_related = related
    return [
        AutomationCore(name=f"tunesmith: tell of {what}", trigger=trigger, actions=[call])
        for what, trigger in (("what failed or was refused", failed), ("what crashed", crashed))
    ]


def _missing_event_trigger(after: str, expected: set[str], seconds: int) -> "EventTrigger":
    """Return a trigger that fires if a flow run emits none of the expected events in time after an event."""
    from prefect.events.schemas.automations import EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    return EventTrigger(
        match=ResourceSpecification({"prefect.resource.id": [f"{RUN}*"]}),
        for_each={"prefect.resource.id"},
        after={after},
        expect=expected,
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=seconds),
    )


def main() -> None:
    """Create the automations on the server at PREFECT_API_URL, with the webhook in TUNESMITH_NOTIFY."""
    try:
        check(os.environ.get(NOTIFY, ""))
        automate(os.environ.get(NOTIFY, ""))
    except RecipeError as error:
        fail(error)


if __name__ == "__main__":
    typer.run(main)
