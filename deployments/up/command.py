"""`tunesmith up`. Prefect is imported once it is needed: help must not wait for it."""

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from deployments.up import databases, servers
from deployments.up.processes import Child, start
from deployments.up.servers import Server
from pipeline_lib.interrupts import ending_in_order
from pipeline_lib.schema import RecipeError

PATIENCE = 180
"""Seconds that a server has to answer: on a busy machine a first start makes its tables slowly."""
RECIPES = Path(__file__).parents[1] / "recipes"


def up(
    prefect_port: Annotated[int, typer.Option(help="Port of Prefect's server and page.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(help="Port of MLflow's server and page.")] = 5000,
    database: Annotated[
        str, typer.Option(help="PostgreSQL for both: postgresql://user:password@host:5432; empty: SQLite, here.")
    ] = "",
    runs: Annotated[int, typer.Option(min=1, help="How many runs may go on at once: one for each GPU.")] = 1,
) -> None:
    """Start Prefect, MLflow and a worker in this folder, and register the deployments; Ctrl-C stops all of them."""
    here = Path.cwd()
    try:
        with ending_in_order(), ExitStack() as stack:
            children: list[Child] = []
            _servers(here, servers.prefect(prefect_port), servers.mlflow(mlflow_port), database, stack, children)
            _worker(here, runs, stack, children)
            _watch(children)
    except KeyboardInterrupt:
        typer.echo("stopped")
    except RecipeError as error:
        typer.secho(str(error), err=True, fg="red")
        raise typer.Exit(2) from None


def _servers(
    here: Path, prefect: Server, mlflow: Server, database: str, stack: ExitStack, children: list[Child]
) -> None:
    """Start those that do not run, wait until each answers, and set the addresses for all that follows."""
    missing = [server for server in (prefect, mlflow) if not server.answers]
    for server in missing:
        server.refuse_taken()
    state, tracked = databases.urls(database, here) if missing else ("", "")
    _set(
        PREFECT_API_URL=f"{prefect.address}/api",
        MLFLOW_TRACKING_URI=mlflow.address,
        PREFECT_LOGGING_EXTRA_LOGGERS="tunesmith",  # our lines stand in the flow run's log
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY="30",
    )
    if prefect in missing:
        own = {
            "PREFECT_API_DATABASE_CONNECTION_URL": state,
            "PREFECT_UI_API_URL": f"{prefect.address}/api",  # else its page asks port 4200
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        }
        command = ["prefect", "server", "start", "--host", servers.LOCAL, "--port", str(prefect.port)]
        _add(start("prefect", command, own, here / "logs"), stack, children)
    if mlflow in missing:
        own = {"MLFLOW_BACKEND_STORE_URI": tracked, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        places = ["--artifacts-destination", str(here / "mlartifacts"), "--workers", "1"]
        command = ["mlflow", "server", "--host", servers.LOCAL, "--port", str(mlflow.port), *places]
        _add(start("mlflow", command, own, here / "logs"), stack, children)
    for server, name in ((prefect, "Prefect"), (mlflow, "MLflow")):
        _until(lambda server=server: server.answers, children)  # type: ignore[misc]
        typer.echo(f"{name:<8} {server.address}{'' if server in missing else '  (ran already)'}")


def _worker(here: Path, runs: int, stack: ExitStack, children: list[Child]) -> None:
    from deployments.up.register import POOL, has_worker, register

    _set(TUNESMITH_RECIPES=os.environ.get("TUNESMITH_RECIPES", str(RECIPES)))
    register(here, runs)
    if has_worker():
        typer.echo("worker   runs already")
    else:
        _add(start("worker", ["prefect", "worker", "start", "--pool", POOL], {}, here / "logs"), stack, children)
        _until(has_worker, children)
    typer.echo(f"worker   in {here}, {runs} run{'s' * (runs > 1)} at once\nlogs     {here / 'logs'}")
    typer.echo("\nIn another terminal:")
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        typer.echo(f"  export {name}={os.environ[name]}")
    typer.echo("Ctrl-C stops what was started here.")


def _set(**variables: str) -> None:
    os.environ.update(variables)


def _add(child: Child, stack: ExitStack, children: list[Child]) -> None:
    """What was started last is stopped first: the worker tells its server how its runs have ended."""
    stack.callback(child.stop)
    children.append(child)


def _until(answers: Callable[[], bool], children: list[Child]) -> None:
    began = time.monotonic()
    while not answers():
        _refuse_ended(children)
        if time.monotonic() - began > PATIENCE:
            child = children[-1]
            raise RecipeError(
                child.name, None, f"does not answer within {PATIENCE} s", f"It said: {child.last_words()}"
            )
        time.sleep(0.3)


def _watch(children: list[Child]) -> None:
    while True:
        _refuse_ended(children)
        time.sleep(1)


def _refuse_ended(children: list[Child]) -> None:
    """Raise RecipeError where one that should run has ended."""
    for child in children:
        if child.ended:
            raise RecipeError(child.name, None, "has ended by itself", f"Look at {child.log}: {child.last_words()}")
