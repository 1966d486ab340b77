"""What a task tells Prefect of an artifact, and what an artifact's manifest tells of a flow run."""

import json
from typing import Any

from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL
from prefect.states import Completed

from pipeline_lib.evaluation.report import markdown_table, score_rows
from pipeline_lib.masking import without_password
from pipeline_lib.store.store import Artifact


def told(artifact: Artifact) -> Any:
    """The artifact, in a state whose name and message say whether it was made or reused; Prefect unwraps it."""
    return Completed(name="Reused" if artifact.reused else "Completed", message=artifact.message, data=artifact)


def by() -> str:
    """The flow run for whom an artifact is made, with the API that knows it; an embedded server's is soon gone."""
    url = PREFECT_API_URL.value()
    return f"flow run {flow_run.name} ({flow_run.id})" + (f" at {without_password(url)}" if url else "")


def show_scores(scores: Artifact, addresses: dict[str, str]) -> None:
    """An artifact on the run's page: the scores, and where model and runs are in MLflow."""
    told = json.loads((scores.folder / "metrics.json").read_text(encoding="utf-8"))
    head, *rows = score_rows(told)
    places = "\n".join(f"- {name}: {_linked(address)}" for name, address in addresses.items())
    text = f"On {told['rows']:,} test rows:\n\n{markdown_table(head, rows)}\n\nIn MLflow:\n\n{places}\n"
    create_markdown_artifact(text, key="scores", description="Scores, and where to look at the run in MLflow")


def _linked(address: str) -> str:
    return f"[{address}]({address})" if address.startswith("http") else f"`{address}`"
