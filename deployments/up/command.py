"""`tunesmith up`. Heavy modules are imported only when needed, so that --help is fast."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from deployments.up import automations
from pipeline_lib.cli.console import fail
from pipeline_lib.errors import RecipeError
from pipeline_lib.util.signals import exit_on_sigterm


def up(
    prefect_port: Annotated[int, typer.Option(help="Port of Prefect's server and page.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(help="Port of MLflow's server and page.")] = 5000,
    database: Annotated[
        str,
        typer.Option(
            envvar="TUNESMITH_DATABASE",
            show_envvar=True,
            help="Database of both servers: sqlite, or postgresql://user:password@host:5432. "
            "Default: PostgreSQL in this folder, or SQLite if an earlier `up` created prefect.db.",
        ),
    ] = "",
    runs: Annotated[int, typer.Option(min=1, help="Maximum number of concurrent runs: at most one per GPU.")] = 1,
    notify: Annotated[
        str, typer.Option(envvar=automations.NOTIFY, help="A webhook (Slack, ...) to notify of failures and refusals.")
    ] = "",
) -> None:
    """Start PostgreSQL, Prefect, MLflow and a worker in this folder; Ctrl-C stops all of them."""
    from deployments.up import processes, servers
    from deployments.up.local_stack import LocalStack

    try:
        automations.check(notify)
        with exit_on_sigterm(), ExitStack() as stack:
            here = LocalStack(Path.cwd(), stack)
            here.serve(servers.prefect(prefect_port), servers.mlflow(mlflow_port), database)
            here.work(runs, notify)
            stack.callback(typer.echo, f"stopping; a training has up to {processes.RUNS} s to save a checkpoint")
            here.watch()
    except KeyboardInterrupt:
        typer.echo("stopped")
    except RecipeError as error:
        fail(error)
