"""What Prefect says of a flow run, asked over plain HTTP: this package never imports Prefect."""

import base64
import json
import os
import urllib.error
import urllib.request
from typing import Any

from pipeline_lib.tracking.circumstances import FlowRun

PATIENCE = 5
"""Seconds to wait for an answer."""


class Unanswered(Exception):
    """Prefect cannot be asked; the message says why."""


def state(flow: FlowRun) -> str | None:
    """The type of a flow run's state, such as COMPLETED or CRASHED; None where that Prefect does not know it.

    Asks the API that was recorded, else $PREFECT_API_URL; raises Unanswered where there is none or it does not answer.
    """
    told = _ask(flow, "")
    return str(told["state"]["type"]) if told else None


def crash(flow: FlowRun) -> None:
    """Say that a flow run has crashed, as Prefect itself says of one whose process it has seen end."""
    said = {"type": "CRASHED", "message": "Its process is gone, found by tunesmith audit."}
    _ask(flow, "/set_state", {"state": said, "force": True})


def _ask(flow: FlowRun, what: str, body: dict[str, Any] | None = None) -> dict[str, Any] | None:
    mine = os.environ.get("PREFECT_API_URL")
    api = flow.api or mine
    if not api:
        raise Unanswered("it ran in an embedded server; set PREFECT_API_URL where one still has its database")
    headers = {"Content-Type": "application/json"} | (_account() if api == mine else {})
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{api.rstrip('/')}/flow_runs/{flow.id}{what}", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise Unanswered(f"{api} answers {error.code}") from None
    except (OSError, ValueError, TypeError) as error:
        raise Unanswered(f"{api} does not answer ({error})") from None


def _account() -> dict[str, str]:
    """How Prefect's own client says who asks; told to the API of this account's settings alone."""
    if key := os.environ.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    if account := os.environ.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {base64.b64encode(account.encode()).decode()}"}
    return {}
