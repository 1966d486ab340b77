"""The command line: `tunesmith run RECIPE [path=value ...]`."""

import logging
import os
import sys
import threading
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from pipeline_lib.cache.commands import app as cache
from pipeline_lib.schema import RecipeError
from pipeline_lib.scoring.command import score

if TYPE_CHECKING:
    from pipeline_lib.recipe import Recipe
    from pipeline_lib.run import RunOutcome


class _ToStderr(logging.Handler):
    """Writes to what stderr is at the moment: a progress bar puts itself in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


HANDLER = _ToStderr()

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Fine-tune language models in a pipeline that people can trust with their production models.",
)
app.add_typer(cache, name="cache")
app.command()(score)
for found in entry_points(group="tunesmith.commands"):  # of what this package must not import: `up`
    app.command(found.name)(found.load())


@app.callback()
def main() -> None:
    """Send every word about a run to stderr: on a terminal as it is, in a log with the time."""
    HANDLER.setFormatter(logging.Formatter("%(message)s" if sys.stderr.isatty() else "%(asctime)s %(message)s"))
    log = logging.getLogger("tunesmith")
    log.setLevel(logging.INFO)
    log.addHandler(HANDLER)  # a second command in one process adds nothing


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="A recipe file (YAML).")],
    overrides: Annotated[list[str] | None, typer.Argument(help="path=value, for example training.epochs=5")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Run the steps as plain calls, without Prefect.")] = False,
) -> None:
    """Fine-tune and evaluate one model; steps that are in the store already are reused."""
    from pipeline_lib import steps
    from pipeline_lib.recipe_file import load
    from pipeline_lib.run import run as run_plain
    from pipeline_lib.summary import show

    try:
        loaded = load(recipe, overrides or [])
        steps.check(loaded)
        outcome = run_plain(loaded) if plain else _with_prefect()(loaded)
    except RecipeError as error:
        _fail(error)
    show(loaded, outcome, recipe)


@app.command()
def plan(
    recipe: Annotated[Path, typer.Argument(help="A recipe file (YAML).")],
    overrides: Annotated[list[str] | None, typer.Argument(help="path=value, for example training.epochs=5")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    parameters: Annotated[bool, typer.Option("--parameters", help="Every parameter with its rate.")] = False,
) -> None:
    """Tell for each step whether a run would reuse or make it, and why; makes nothing."""
    import json

    from pipeline_lib.plan import view as plan_view
    from pipeline_lib.plan.plan import plan as make_plan
    from pipeline_lib.recipe_file import load

    try:
        made = make_plan(load(recipe, overrides or []))
    except RecipeError as error:
        _fail(error)
    if as_json:
        typer.echo(json.dumps(plan_view.as_json(made), indent=1, ensure_ascii=False))
    else:
        plan_view.show(made, parameters)


@app.command()
def export(
    source: Annotated[
        Path, typer.Argument(metavar="RECIPE_OR_MODEL_FOLDER", help="A recipe that was run, or a model.")
    ],
    out: Annotated[Path, typer.Argument(help="The folder to write: new, or empty.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="path=value, as the run was given them")] = None,
) -> None:
    """Write a trained model as a plain Hugging Face folder with a model card, to be loaded without this project."""
    from pipeline_lib.export.export import export as write

    try:
        typer.echo(f"written to {write(source, out, overrides or [])}")
    except RecipeError as error:
        _fail(error)


def _with_prefect() -> "Callable[[Recipe], RunOutcome]":
    """The flow, found by its entry point: this package never imports Prefect. Torch is imported meanwhile."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")  # the terminal has our own lines
    os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "tunesmith")  # our lines stand in the flow run's log, too
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")  # its heartbeat locks the embedded database
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")  # its 20 s fail on a busy machine
    threading.Thread(target=_import_ahead, daemon=True).start()
    (found,) = entry_points(group="tunesmith.runners", name="prefect")
    return found.load()


def _import_ahead() -> None:
    import torch  # noqa: F401


def _fail(error: RecipeError) -> NoReturn:
    for line in (str(error), *getattr(error, "__notes__", ())):
        typer.secho(line, err=True, fg="red")
    raise typer.Exit(2)
