"""What the terminal shows at the end of a run."""

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline_lib.evaluation.report import number
from pipeline_lib.recipe import Recipe, tracking_uri
from pipeline_lib.run import RunOutcome


def show(recipe: Recipe, outcome: RunOutcome, path: Path) -> None:
    """Print steps, scores with what they mean, where everything is, and the next command to try."""
    console = Console()
    for artifact in (outcome.data, outcome.start, outcome.model, outcome.scores):
        console.print(f"{artifact.step:<11} {artifact.message}", highlight=False)
    console.print(_scores(outcome))
    uri = tracking_uri(recipe.execution)
    for what, where in {"model": outcome.model.folder / "model", "report": outcome.report,
                        "MLflow run": outcome.published["training"], "MLflow model": outcome.published["model"]}.items():
        console.print(f"{what:<13} {where}", highlight=False, soft_wrap=True)
    if not uri.startswith("http"):
        console.print(f"{'MLflow page':<13} mlflow ui --backend-store-uri {uri}", highlight=False, soft_wrap=True)
    console.print(f"{'try next':<13} tunesmith run {path} 'strategies=[{{kind: partial, last_layers: 2}}]'", highlight=False,
                  soft_wrap=True, markup=False)


def _scores(outcome: RunOutcome) -> Table:
    scores = json.loads((outcome.scores.folder / "metrics.json").read_text(encoding="utf-8"))
    table = Table(title=f"Scores on {scores['rows']:,} test rows", title_justify="left")
    for name in ("metric", "score", f"{scores['level']:.0%} interval", *scores["baselines"], "what it means"):
        table.add_column(name.replace("_", " "))
    for name, score in scores["metrics"].items():
        others = (number(baseline[name]["value"]) for baseline in scores["baselines"].values())
        table.add_row(name, number(score["value"]), f"{number(score['low'])} – {number(score['high'])}", *others, score["meaning"])
    return table
