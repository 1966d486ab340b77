"""Read and set a flow run's state over plain HTTP, since this package never imports Prefect."""

import os
from typing import Any

from pipeline_lib.preflight.mlflow_rest import reason
from pipeline_lib.preflight.prefect_rest import ADDRESS, call
from pipeline_lib.tracking.environment import FlowRun


class PrefectUnavailable(Exception):
    """Prefect's API cannot be reached; the message says why."""


def state(flow: FlowRun) -> str | None:
    """Return the type of a flow run's state, such as COMPLETED or CRASHED; None if Prefect does not know the run.

    Uses the API recorded with the run, otherwise $PREFECT_API_URL.

    Raises:
        PrefectUnavailable: There is no such API, or it does not answer.
    """
    document = _ask(flow, "")
    return str(document["state"]["type"]) if document else None


def crash(flow: FlowRun) -> None:
    """Set a flow run to CRASHED, as Prefect does when a worker sees its process die."""
    state_ = {"type": "CRASHED", "message": "The process is gone (detected by tunesmith audit)."}
    _ask(flow, "/set_state", {"state": state_, "force": True})


def _ask(flow: FlowRun, what: str, body: dict[str, Any] | None = None) -> dict[str, Any] | None:
    import requests

    api = flow.api or os.environ.get(ADDRESS)
    if not api:
        raise PrefectUnavailable("it ran on an embedded server; set PREFECT_API_URL to a server with its database")
    try:
        answer = call(api, "GET" if body is None else "POST", f"flow_runs/{flow.id}{what}", body)
        if answer.status_code == 404:
            return None
        if answer.status_code >= 400:
            raise PrefectUnavailable(f"{api} answers {answer.status_code}")
        return dict(answer.json())
    except (requests.RequestException, ValueError, TypeError) as error:
        raise PrefectUnavailable(f"{api} does not answer ({reason(error)})") from None
