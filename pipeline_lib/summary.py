"""What the terminal shows at the end of a run."""

import json
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from pipeline_lib.console import wide
from pipeline_lib.evaluation.tables import COLLAPSED_HINT, number
from pipeline_lib.execution import tracking_uri
from pipeline_lib.masking import masked
from pipeline_lib.recipe import Recipe
from pipeline_lib.run import RunOutcome


def show(recipe: Recipe, outcome: RunOutcome, path: Path) -> None:
    """Print the scores with what they mean, where everything is, and the next command to try."""
    console = Console()
    wide().print(_scores(outcome))
    if collapsed := json.loads((outcome.scores.folder / "metrics.json").read_text(encoding="utf-8")).get("collapsed"):
        console.print(f"The model has collapsed: {collapsed}. {COLLAPSED_HINT}", soft_wrap=True, markup=False)
    uri = masked(tracking_uri(recipe.execution))
    precision = json.loads((outcome.model.folder / "summary.json").read_text(encoding="utf-8"))["precision"]
    lines = {
        "precision": precision,
        "model": outcome.model.folder / "model",
        "report": outcome.report,
        "MLflow run": outcome.published.get("run", outcome.published["training"]),
        "MLflow model": outcome.published["model"],
    }
    if not uri.startswith("http"):
        lines["MLflow page"] = f"mlflow ui --backend-store-uri {uri}"
    lines["try next"] = f"tunesmith run {path} 'strategies=[{{kind: partial, last_layers: 2}}]'"
    for what, where in lines.items():
        console.print(f"{what:<13} {where}", highlight=False, soft_wrap=True, markup=False)


def _scores(outcome: RunOutcome) -> Table:
    scores = json.loads((outcome.scores.folder / "metrics.json").read_text(encoding="utf-8"))
    table = Table(title=f"Scores on {scores['rows']:,} test rows", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("metric", "score", f"{scores['level']:.0%} interval", *scores["baselines"]):
        table.add_column(name.replace("_", " "), no_wrap=True)
    table.add_column("what it means")
    for name, score in scores["metrics"].items():
        others = (number(baseline[name]["value"]) for baseline in scores["baselines"].values())
        table.add_row(
            name, number(score["value"]), f"{number(score['low'])} – {number(score['high'])}", *others, score["meaning"]
        )
    return table
