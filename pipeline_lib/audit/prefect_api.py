"""What Prefect says of a flow run, asked over plain HTTP: this package never imports Prefect."""

import os
from typing import Any

from pipeline_lib.preflight.mlflow_rest import reason
from pipeline_lib.preflight.prefect_rest import ADDRESS, call
from pipeline_lib.tracking.environment import FlowRun


class PrefectUnavailable(Exception):
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
    import requests

    api = flow.api or os.environ.get(ADDRESS)
    if not api:
        raise PrefectUnavailable("it ran in an embedded server; set PREFECT_API_URL where one still has its database")
    try:
        answer = call(api, "GET" if body is None else "POST", f"flow_runs/{flow.id}{what}", body)
        if answer.status_code == 404:
            return None
        if answer.status_code >= 400:
            raise PrefectUnavailable(f"{api} answers {answer.status_code}")
        return dict(answer.json())
    except (requests.RequestException, ValueError, TypeError) as error:
        raise PrefectUnavailable(f"{api} does not answer ({reason(error)})") from None
