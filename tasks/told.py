"""What a task tells Prefect of an artifact, and what an artifact's manifest tells of a flow run."""

from typing import Any

from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL
from prefect.states import Completed

from pipeline_lib.masking import without_password
from pipeline_lib.store.store import Artifact


def told(artifact: Artifact) -> Any:
    """The artifact, in a state whose name and message say whether it was made or reused; Prefect unwraps it."""
    return Completed(name="Reused" if artifact.reused else "Completed", message=artifact.message, data=artifact)


def by() -> str:
    """The flow run for whom an artifact is made, with the API that knows it; an embedded server's is soon gone."""
    url = PREFECT_API_URL.value()
    return f"flow run {flow_run.name} ({flow_run.id})" + (f" at {without_password(url)}" if url else "")
