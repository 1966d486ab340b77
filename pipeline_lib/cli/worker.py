"""`tunesmith worker`."""

from typing import Annotated

import typer

from pipeline_lib.cli.console import fail
from pipeline_lib.errors import RecipeError


def worker(
    rendezvous: Annotated[
        str, typer.Option("--rendezvous", help="HOST:PORT, the `execution.rendezvous` of the recipes to train.")
    ],
    processes: Annotated[
        int | None,
        typer.Option("--processes", min=1, help="Processes on this machine; otherwise the recipe's number."),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Stop after one training; the exit code is 1 if it failed.")
    ] = False,
) -> None:
    """Train together with a run on another machine (`execution.machines`), one training after the other.

    The inputs come from the store of the recipe, for which this machine needs its own credentials.
    """
    from pipeline_lib.training.distributed.join import join_trainings

    try:
        succeeded = join_trainings(rendezvous, processes, once)
    except RecipeError as error:
        fail(error)
    raise typer.Exit(0 if succeeded else 1)
