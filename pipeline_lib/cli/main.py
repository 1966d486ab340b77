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
from pipeline_lib.cli.console import fail, load_flow, show_bug
from pipeline_lib.cli.doctor import doctor
from pipeline_lib.cli.init import init
from pipeline_lib.cli.recipe import explain, schema
from pipeline_lib.cli.retrain import retrain, rollback
from pipeline_lib.cli.score import score
from pipeline_lib.cli.sweep import sweep
from pipeline_lib.cli.worker import worker
from pipeline_lib.errors import RecipeError
from pipeline_lib.export.formats import Format
from pipeline_lib.util.log_lines import StderrHandler


class _App(typer.Typer):
    """The command line, which reports an unexpected error as a bug."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command; on an unexpected error, print its traceback and how to report it, and exit with code 1."""
        try:
            return super().__call__(*args, **kwargs)
        except Exception as error:
            show_bug(error)
            sys.exit(1)


app = _App(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # otherwise rich drops text in square brackets as markup
    help="Fine-tune language models reproducibly: cached steps, checked data, evaluation with intervals, MLflow.",
)
app.add_typer(cache, name="cache")
for command in (audit, compare, doctor, explain, init, reproduce, retrain, rollback, schema, score, sweep, worker):
    app.command()(command)
for entry_point in entry_points(group="tunesmith.commands"):  # commands outside this package, such as `up`
    app.command(entry_point.name)(entry_point.load())


@app.callback()
def main() -> None:
    """Send log lines to stderr: plain on a terminal, with the time in a log file."""
    # Imports create about a million permanent objects. Scanning them for garbage takes seconds, also at exit.
    gc.set_threshold(10_000)
    atexit.register(gc.freeze)
    log = logging.getLogger("tunesmith")
    log.setLevel(logging.INFO)
    if not any(
        isinstance(handler, StderrHandler) for handler in log.handlers
    ):  # tests run several commands in one process
        log.addHandler(StderrHandler())


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="A recipe file (YAML).")],
    overrides: Annotated[list[str] | None, typer.Argument(help="path=value, for example training.epochs=5")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Run the steps as plain calls, without Prefect.")] = False,
) -> None:
    """Fine-tune and evaluate one model; steps that are already in the store are reused."""
    from pipeline_lib.cli.run_summary import print_summary
    from pipeline_lib.pipeline import input_checks
    from pipeline_lib.pipeline.run import run as run_plain
    from pipeline_lib.preflight import preflight
    from pipeline_lib.recipe.loading import load

    try:
        loaded = load(recipe, overrides or [])
        input_checks.check_inputs(loaded)
        if not plain:  # fail before Prefect starts; the first step repeats the checks and logs warnings
            preflight.require(loaded, warn=False)
        outcome = run_plain(loaded) if plain else load_flow("prefect")(loaded)
    except RecipeError as error:
        fail(error)
    print_summary(loaded, outcome, recipe)


@app.command()
def plan(
    recipe: Annotated[Path, typer.Argument(help="A recipe file (YAML).")],
    overrides: Annotated[list[str] | None, typer.Argument(help="path=value, for example training.epochs=5")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    parameters: Annotated[
        bool, typer.Option("--parameters", help="List every parameter with its learning rate.")
    ] = False,
    memory: Annotated[
        bool, typer.Option("--memory", help="Show how much memory the training needs on its device.")
    ] = False,
) -> None:
    """Show which steps a run would reuse and which it would compute, and why; computes nothing."""
    import json

    from pipeline_lib.cli import plan_table as plan_view
    from pipeline_lib.pipeline.plan import plan as make_plan
    from pipeline_lib.recipe.loading import load

    needed = None
    try:
        loaded = load(recipe, overrides or [])
        result = make_plan(loaded)
        if memory:
            from pipeline_lib.pipeline.plan_memory import plan_memory

            needed = plan_memory(loaded, result)
    except RecipeError as error:
        fail(error)
    if as_json:
        typer.echo(json.dumps(plan_view.as_json(result, needed), indent=1, ensure_ascii=False))
    else:
        plan_view.print_plan(result, parameters, needed)


@app.command()
def export(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RECIPE_OR_MODEL_FOLDER", help="A recipe that has been run, or the folder of a trained model."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="The folder to write; must be new or empty.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="path=value, the overrides of the run")] = None,
    format: Annotated[
        Format,
        typer.Option(
            help="huggingface: merged weights for transformers; peft: the adapter alone; onnx: a graph for ONNX "
            "Runtime; gguf: one file for llama.cpp."
        ),
    ] = "huggingface",
) -> None:
    """Export a trained model with a model card to a folder that loads without this project, and verify its outputs."""
    from pipeline_lib.export.export import export as write

    try:
        typer.echo(f"written to {write(source, out, overrides or [], format)}")
    except RecipeError as error:
        fail(error)
