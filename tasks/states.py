"""What a task tells Prefect of an artifact, and what an artifact's manifest tells of a flow run."""

import json
import re
from typing import Any

from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Completed

from pipeline_lib.evaluation.report.tables import markdown_table, score_rows
from pipeline_lib.store.artifacts import Artifact
from pipeline_lib.util.redaction import without_password


def as_state(artifact: Artifact) -> Any:
    """The artifact, in a state whose name and message say whether it was made or reused; Prefect unwraps it."""
    return Completed(name="Reused" if artifact.reused else "Completed", message=artifact.message, data=artifact)


def current_flow_run() -> str:
    """The flow run for whom an artifact is made, with the API that knows it; an embedded server's is soon gone."""
    url = PREFECT_API_URL.value()
    return f"flow run {flow_run.name} ({flow_run.id})" + (f" at {without_password(url)}" if url else "")


def mark_cancelled(flow: Any, flow_run: Any, state: Any) -> None:
    """`on_crashed` of a flow: a run that was being cancelled is cancelled, and not crashed.

    SIGTERM waits for the end of a training step, and while it does Prefect cannot tell its child what it is for.
    """
    with get_client(sync_client=True) as client:
        states = sorted(client.read_flow_run_states(flow_run.id), key=lambda each: each.timestamp)
        if [each.type for each in states[-2:]] == [StateType.CANCELLING, StateType.CRASHED]:
            told: State[Any] = Cancelled(message="Cancelled; a rerun goes on from the checkpoint.")
            client.set_flow_run_state(flow_run.id, told, force=True)


def show_scores(name: str, scores: Artifact, addresses: dict[str, str]) -> None:
    """An artifact on the run's page: the scores, and where model and runs are in MLflow."""
    told = json.loads((scores.folder / "metrics.json").read_text(encoding="utf-8"))
    head, *rows = score_rows(told)
    places = "\n".join(f"- {_linked(what, address)}" for what, address in addresses.items())
    text = f"In MLflow:\n\n{places}\n\nOn {told['rows']:,} test rows:\n\n{markdown_table(head, rows)}\n"
    key = artifact_key("scores", name)
    create_markdown_artifact(text, key=key, description="Scores, and where to look at the run in MLflow")


def artifact_key(kind: str, recipe_name: str) -> str:
    """Prefect's key for artifacts of one kind and recipe: its page shows them over time."""
    return f"{kind}-{re.sub('[^a-z0-9]+', '-', recipe_name.lower())}"


def _linked(what: str, address: str) -> str:
    return f"[{what}]({address})" if address.startswith("http") else f"{what}: `{address}`"
