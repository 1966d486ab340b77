"""Prefect states and artifacts for the artifacts of a run, and the current flow run for their manifests."""

import json
import re
from typing import Any

from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.logging.handlers import APILogHandler
from prefect.logging.loggers import flow_run_logger
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed

from pipeline_lib.evaluation.report.tables import markdown_table, score_rows
from pipeline_lib.store.artifacts import Artifact
from pipeline_lib.util.redaction import redact_url
from tasks.own_server import lasting_server

RESUME = "Retry continues: finished steps are reused, a training resumes from its last checkpoint."
CANCELLED, CRASHED = f"Cancelled. {RESUME}", f"Crashed. {RESUME}"
"""The last log lines of such runs. Prefect's worker replaces the messages of their states."""


def as_state(artifact: Artifact) -> Any:
    """Wrap an artifact in a state whose name and message say whether it was created or reused.

    Prefect unwraps the state, so that the task's caller gets the artifact.
    """
    return Completed(name="Reused" if artifact.reused else "Completed", message=artifact.message, data=artifact)


def current_flow_run() -> str:
    """Return the current flow run for an artifact's manifest, with the API's address unless the server is embedded."""
    url = lasting_server()
    return f"flow run {flow_run.name} ({flow_run.id})" + (f" at {redact_url(url)}" if url else "")


def end_crashed(flow: Any, flow_run: Any, state: Any) -> None:
    """Say how a crashed run continues; mark it as cancelled if that is why it ended (`on_crashed` of a flow).

    A training handles SIGTERM only after its current step, and Prefect cannot say that the signal meant a cancellation;
    the run would be shown as crashed.
    """
    message = CRASHED
    with get_client(sync_client=True) as client:
        states = sorted(client.read_flow_run_states(flow_run.id), key=lambda past: past.timestamp)
        last_two = [past.type for past in states[-2:]]
        if last_two == [StateType.CANCELLING, StateType.CRASHED]:
            message = CANCELLED
            cancelled: State[Any] = Cancelled(message=message)
            client.set_flow_run_state(flow_run.id, cancelled, force=True)
    log_last(flow_run, message)


def log_last(run: FlowRun, message: str) -> None:
    """Log to a flow run whose process is about to end, and send what waits: it would be lost with the process."""
    flow_run_logger(run).info("%-11s %s", "run", message)
    APILogHandler().flush()


def show_scores(name: str, scores: Artifact, addresses: dict[str, str]) -> None:
    """Show the scores on the run's page, with links to the model and the runs in MLflow."""
    metrics = json.loads((scores.folder / "metrics.json").read_text(encoding="utf-8"))
    head, *rows = score_rows(metrics)
    links = "\n".join(f"- {_format_link(label, address)}" for label, address in addresses.items())
    text = f"In MLflow:\n\n{links}\n\nOn {metrics['rows']:,} test rows:\n\n{markdown_table(head, rows)}\n"
    key = artifact_key("scores", name)
    create_markdown_artifact(text, key=key, description="Scores, and links to the run in MLflow")


def artifact_key(kind: str, recipe_name: str) -> str:
    """Return Prefect's key for artifacts of one kind and recipe, whose page shows them over time."""
    return f"{kind}-{re.sub('[^a-z0-9]+', '-', recipe_name.lower())}"


def _format_link(label: str, address: str) -> str:
    return f"[{label}]({address})" if address.startswith("http") else f"{label}: `{address}`"
