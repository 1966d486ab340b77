"""A training's progress on the page of its flow run."""

from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from tasks.states import artifact_key

if TYPE_CHECKING:
    from pipeline_lib.training.progress import Standing


class ProgressArtifact:
    """Shows how a training stands: a bar in percent, and its numbers below. Not created before the first step."""

    def __init__(self, recipe_name: str):
        self.key = artifact_key("training", recipe_name)
        self.artifact: UUID | None = None

    def __call__(self, standing: "Standing") -> None:
        """Create the artifact, or update it."""
        text = described(standing)
        if self.artifact is None:
            # its type says that it may be a coroutine, which it is not in a task without async
            created: Any = create_progress_artifact(standing.percent, key=self.key, description=text)
            self.artifact = created
        else:
            update_progress_artifact(self.artifact, standing.percent, description=text)


def described(standing: "Standing") -> str:
    """The numbers as a list in Markdown, with the link to MLflow above it."""
    link = [f"[Follow it in MLflow]({standing.page})", ""] if standing.page else []
    return "\n".join([*link, *(f"- {fact}" for fact in standing.facts())])
