"""The command line: `tunesmith run RECIPE [path=value ...]`."""

import atexit
import gc
import logging
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline_lib.cli.audit import audit, reproduce
from pipeline_lib.cli.cache import app as cache
from pipeline_lib.cli.compare import compare
from pipeline_lib.cli.console import fail, show_bug, with_prefect
from pipeline_lib.cli.doctor import doctor
from pipeline_lib.cli.init import init
from pipeline_lib.cli.recipe import explain, schema
from pipeline_lib.cli.retrain import retrain, rollback
from pipeline_lib.cli.score import score
from pipeline_lib.cli.sweep import sweep
from pipeline_lib.errors import RecipeError
from pipeline_lib.util.log_lines import StderrHandler


class _App(typer.Typer):
    """The command line. An error that no command has foreseen is a bug of ours, and says so."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command; an unforeseen error ends in its traceback, a line on how to report it, and exit code 1."""
        try:
            return super().__call__(*args, **kwargs)
        except Exception as error:
            show_bug(error)
            sys.exit(1)


app = _App(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # else rich takes text in square brackets for markup, and drops it
    help="Fine-tune language models in a pipeline that people can trust with their production models.",
)
app.add_typer(cache, name="cache")
for command in (audit, compare, doctor, explain, init, reproduce, retrain, rollback, schema, score, sweep):
    app.command()(command)
for found in entry_points(group="tunesmith.commands"):  # of what this package must not import: `up`
    app.command(found.name)(found.load())


@app.callback()
def main() -> None:
    """Send every word about a run to stderr: on a terminal as it is, in a log with the time."""
    gc.set_threshold(10_000)  # imports make some million objects that stay: looking for garbage among them takes
    atexit.register(gc.freeze)  # seconds, and once more at the end
    log = logging.getLogger("tunesmith")
    log.setLevel(logging.INFO)
    if not any(isinstance(handler, StderrHandler) for handler in log.handlers):  # a second command in one process
        log.addHandler(StderrHandler())


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="A recipe file (YAML).")],
    overrides: Annotated[list[str] | None, typer.Argument(help="path=value, for example training.epochs=5")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Run the steps as plain calls, without Prefect.")] = False,
) -> None:
    """Fine-tune and evaluate one model; steps that are in the store already are reused."""
    from pipeline_lib.cli.run_summary import show
    from pipeline_lib.pipeline import input_checks
    from pipeline_lib.pipeline.run import run as run_plain
    from pipeline_lib.preflight import preflight
    from pipeline_lib.recipe.loading import load

    try:
        loaded = load(recipe, overrides or [])
        input_checks.check(loaded)
        if not plain:  # before Prefect starts; the first step makes the checks in any case
            preflight.require(loaded, tell=False)
        outcome = run_plain(loaded) if plain else with_prefect("prefect")(loaded)
    except RecipeError as error:
        fail(error)
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

    from pipeline_lib.cli import plan_table as plan_view
    from pipeline_lib.pipeline.plan import plan as make_plan
    from pipeline_lib.recipe.loading import load

    try:
        made = make_plan(load(recipe, overrides or []))
    except RecipeError as error:
        fail(error)
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
        fail(error)
