"""A whole run as plain calls, and what it leaves: the same steps that the flow takes."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib import steps
from pipeline_lib.interrupts import Judge
from pipeline_lib.recipe import Recipe
from pipeline_lib.store.artifact import Artifact

if TYPE_CHECKING:
    from pipeline_lib.training.progress import Show


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


def run(recipe: Recipe, by: str = "a plain call", judge: Judge | None = None, show: "Show | None" = None) -> RunOutcome:
    """Encode, prepare, initialise, check, fine-tune, evaluate and publish, without an orchestrator.

    Raises Pruned where `judge` sees no hope in the training.
    """
    files = steps.encode(recipe, by)
    data = steps.prepare(recipe, files, by)
    start = steps.initialise(recipe, data, by)
    found = steps.checks(recipe, data, start, by)
    model = steps.finetune(recipe, data, start, by, judge, show)
    scores = steps.evaluate(recipe, data, found, model, by)
    return RunOutcome(data, start, found, model, scores, steps.publish(recipe, data, model, scores, by))
