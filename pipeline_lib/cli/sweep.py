"""`tunesmith sweep RECIPE ...`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline_lib.cli.console import fail, load_flow, show_markdown
from pipeline_lib.errors import RecipeError


def sweep(
    recipes: Annotated[list[Path], typer.Argument(metavar="RECIPE...", help="Recipe files (YAML).")],
    vary: Annotated[list[str] | None, typer.Option(help="path=[value, value ...]; repeat it for more fields.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds for each combination.")] = 1,
    metric: Annotated[
        str | None, typer.Option(help="The metric to compare by; default: the objective's main metric.")
    ] = None,
    level: Annotated[float, typer.Option(min=0.51, max=0.999, help="Confidence level.")] = 0.95,
    prune: Annotated[
        Literal["median", "halving"] | None,
        typer.Option(help="Stop unpromising trainings early with this pruner of Optuna."),
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Run one trial after the other, without Prefect.")] = False,
) -> None:
    """Run all combinations of recipes, values and seeds; compare scores, trained parameters and time."""
    from pipeline_lib.recipe.loading import load
    from pipeline_lib.sweep.sweep import sweep as sweep_plain
    from pipeline_lib.sweep.trials import Sweep

    try:
        loaded = [load(recipe) for recipe in recipes]
        settings = Sweep(vary=tuple(vary or ()), seeds=seeds, metric=metric, level=level, pruner=prune)
        comparison = (sweep_plain if plain else load_flow("sweep"))(loaded, settings)
    except RecipeError as error:
        fail(error)
    show_markdown((comparison.folder / "comparison.md").read_text(encoding="utf-8"))
    typer.echo(f"figure: {comparison.folder / 'pareto.png'}")
