"""Training progress on the page of its flow run."""

from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from tasks.states import artifact_key

if TYPE_CHECKING:
    from pipeline_lib.training.progress import ProgressSnapshot


class ProgressArtifact:
    """A progress bar in percent with the training's numbers below; created at the first step."""

    def __init__(self, recipe_name: str):
        self.key = artifact_key("training", recipe_name)
        self.artifact: UUID | None = None

    def __call__(self, snapshot: "ProgressSnapshot") -> None:
        """Create the artifact, or update it."""
        text, percent = format_progress(snapshot), round(snapshot.percent, 1)  # Prefect's page shows every digit
        if self.artifact is None:
            # Typed as possibly a coroutine; in a synchronous task it is the artifact's id.
            created: Any = create_progress_artifact(percent, key=self.key, description=text)
            self.artifact = created
        else:
            update_progress_artifact(self.artifact, percent, description=text)


def format_progress(snapshot: "ProgressSnapshot") -> str:
    """Return the numbers as a Markdown list, below the link to MLflow."""
    link = [f"[Follow it in MLflow]({snapshot.page})", ""] if snapshot.page else []
    return "\n".join([*link, *(f"- {fact}" for fact in snapshot.facts())])
