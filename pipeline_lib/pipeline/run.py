"""Run all steps as plain function calls; the Prefect flow runs the same steps."""

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.evaluation.score_table import as_html, as_text, score_frame, score_table
from pipeline_lib.pipeline import steps
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.artifacts import Artifact
from pipeline_lib.util.signals import StopCheck

if TYPE_CHECKING:
    import pandas as pd

    from pipeline_lib.training.progress import Show


@dataclass(frozen=True, repr=False)
class RunOutcome:
    """The artifacts that a run created or reused, and their addresses in MLflow."""

    data: Artifact
    start: Artifact
    checks: Artifact
    model: Artifact
    scores: Artifact
    published: dict[str, str]

    @property
    def report(self) -> Path:
        """Path of the HTML report."""
        return self.scores.folder / "report.html"

    @property
    def model_folder(self) -> Path:
        """Folder of the trained model, for `Predictor.load` and `tunesmith export`."""
        return self.model.folder / "model"

    @property
    def metrics(self) -> "pd.DataFrame":
        """Metrics on the test rows, indexed by name: value, bounds of the interval, baselines and meaning."""
        return score_frame(self.scores.folder)

    @property
    def predictions(self) -> "pd.DataFrame":
        """The test rows with the model's predictions."""
        import pandas as pd

        return pd.read_parquet(self.scores.folder / "predictions.parquet")

    def _places(self) -> dict[str, str]:
        run = self.published.get("run") or self.published.get("training", "not delivered")
        return {"model": str(self.model_folder), "report": str(self.report), "MLflow run": run}

    def __repr__(self) -> str:
        """Show the metrics and the locations of the model, the report and the MLflow run."""
        places = [f"{name:<10} {place}" for name, place in self._places().items()]
        if not self.scores.folder.is_dir():  # removed from the store, or on another machine
            return "\n".join(["RunOutcome; its scores are not in the store", *places])
        return "\n".join([as_text(score_table(self.scores.folder)), *places])

    def _repr_html_(self) -> str:
        """Show the same in a notebook, with a link to MLflow."""
        if not self.scores.folder.is_dir():
            return f"<pre>{escape(repr(self))}</pre>"
        lines = [f"<tr><th>{name}</th><td>{_link(place)}</td></tr>" for name, place in self._places().items()]
        return f"{as_html(score_table(self.scores.folder))}<table>{''.join(lines)}</table>"


def run(
    recipe: Recipe, made_by: str = "a plain call", stop_check: StopCheck | None = None, show: "Show | None" = None
) -> RunOutcome:
    """Encode, prepare, initialise, check, fine-tune, evaluate and publish, without an orchestrator.

    Args:
        recipe: The recipe to run.
        made_by: Who runs it, as recorded in the manifests of new artifacts.
        stop_check: Called with new records of the training's history; returns a reason to stop early, or None.
        show: Called every few seconds with the progress of the training.

    Raises:
        RecipeError: The recipe or its data has a mistake.
        Pruned: `stop_check` stopped the training.
    """
    files = steps.encode(recipe, made_by)
    data = steps.prepare(recipe, files, made_by)
    start = steps.initialise(recipe, data, made_by)
    findings = steps.checks(recipe, data, start, made_by)
    model = steps.finetune(recipe, data, start, made_by, stop_check, show)
    scores = steps.evaluate(recipe, data, findings, model, made_by)
    published = steps.publish(recipe, data, model, scores, made_by)
    return RunOutcome(data, start, findings, model, scores, published)


def _link(place: str) -> str:
    shown = escape(place)
    return f'<a href="{shown}" target="_blank">{shown}</a>' if place.startswith("http") else shown
