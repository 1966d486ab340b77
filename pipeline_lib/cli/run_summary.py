"""The summary that the terminal shows at the end of a run."""

import json
from pathlib import Path

from rich.console import Console

from pipeline_lib.cli.console import wide
from pipeline_lib.evaluation.report.tables import COLLAPSED_HINT
from pipeline_lib.evaluation.score_table import score_table
from pipeline_lib.pipeline.run import RunOutcome
from pipeline_lib.recipe.execution import tracking_uri
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.util.redaction import redact


def print_summary(recipe: Recipe, outcome: RunOutcome, path: Path) -> None:
    """Print the scores with their meaning, the locations of all results, and a command to try next."""
    console = Console()
    wide().print(score_table(outcome.scores.folder))
    if collapsed := json.loads((outcome.scores.folder / "metrics.json").read_text(encoding="utf-8")).get("collapsed"):
        console.print(f"The model has collapsed: {collapsed}. {COLLAPSED_HINT}", soft_wrap=True, markup=False)
    uri = redact(tracking_uri(recipe.execution))
    precision = json.loads((outcome.model.folder / "summary.json").read_text(encoding="utf-8"))["precision"]
    lines = {
        "precision": precision,
        "model": outcome.model_folder,
        "report": outcome.report,
        "MLflow run": outcome.published["run"],
        "MLflow model": outcome.published["model"],
    }
    if not uri.startswith("http"):
        lines["MLflow page"] = f"mlflow ui --backend-store-uri {uri}"
    lines["try next"] = f"tunesmith run {path} 'strategies=[{{kind: partial, last_layers: 2}}]'"
    for label, text in lines.items():
        console.print(f"{label:<13} {text}", highlight=False, soft_wrap=True, markup=False)
