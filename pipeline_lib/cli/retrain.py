"""`tunesmith retrain` and `tunesmith rollback`."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline_lib.cli.console import fail, load_flow
from pipeline_lib.errors import RecipeError


def retrain(
    recipe: Annotated[Path, typer.Argument(help="A recipe file (YAML).")],
    overrides: Annotated[list[str] | None, typer.Argument(help="path=value, for example training.epochs=5")] = None,
    gate: Annotated[Path | None, typer.Option("--gate", help="A YAML file with the gate's settings.")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Run the steps as plain calls, without Prefect.")] = False,
) -> None:
    """Train a challenger if the data or the recipe has changed, and promote it if it passes the gate."""
    from pipeline_lib.recipe.loading import load
    from pipeline_lib.retrain.decision_page import format_decision
    from pipeline_lib.retrain.gate import load_gate
    from pipeline_lib.retrain.retrain import retrain as retrain_plain

    try:
        loaded, settings = load(recipe, overrides or []), load_gate(gate)
        settings.check(loaded)
        decision = (retrain_plain if plain else load_flow("retrain"))(loaded, settings)
    except RecipeError as error:
        fail(error)
    for line in format_decision(decision, settings.name(loaded)):
        typer.echo(line)


def rollback(
    name: Annotated[str, typer.Argument(help="The registered model.")],
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow's address, as in `execution.tracking_uri`.")] = None,
) -> None:
    """Restore the previous champion of a registered model."""
    import getpass

    from pipeline_lib.recipe.execution import Execution
    from pipeline_lib.tracking.registry import Registry

    try:
        former, champion = Registry(Execution(tracking_uri=tracking_uri), name).roll_back(getpass.getuser())
    except RecipeError as error:
        fail(error)
    typer.echo(f"{name}: version {champion} is the champion again; version {former.number} will not be promoted again")
