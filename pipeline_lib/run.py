"""A whole run as plain calls, and what it leaves: the same steps that the flow takes."""

from dataclasses import dataclass
from pathlib import Path

from pipeline_lib import steps
from pipeline_lib.recipe import Recipe
from pipeline_lib.store.store import Artifact


@dataclass(frozen=True)
class RunOutcome:
    """References to everything that a run made or reused, and the addresses in MLflow."""

    data: Artifact
    start: Artifact
    checks: Artifact
    model: Artifact
    scores: Artifact
    published: dict[str, str]

    @property
    def report(self) -> Path:
        """The report page."""
        return self.scores.folder / "report.html"


def run(recipe: Recipe) -> RunOutcome:
    """Encode, prepare, initialise, check, fine-tune, evaluate and publish, without an orchestrator."""
    files = steps.encode(recipe)
    data = steps.prepare(recipe, files)
    start = steps.initialise(recipe, data)
    found = steps.checks(recipe, data, start)
    model = steps.finetune(recipe, data, start)
    scores = steps.evaluate(recipe, data, found, model)
    return RunOutcome(data, start, found, model, scores, steps.publish(recipe, data, model, scores))
