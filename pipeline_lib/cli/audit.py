"""`tunesmith audit [RUN|MODEL]` and `tunesmith reproduce RUN`: where a model comes from, and whether it comes again."""

import json
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from pipeline_lib.errors import RecipeError

Uri = Annotated[str | None, typer.Option("--tracking-uri", help="MLflow's address, as in execution.tracking_uri.")]
Experiment = Annotated[str, typer.Option("--experiment", help="The MLflow experiment, where no RUN or MODEL is given.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def audit(
    target: Annotated[
        str | None, typer.Argument(metavar="RUN|MODEL", help="A run's id, models:/NAME/VERSION or models:/ID.")
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Settle runs that a kill has left RUNNING.")] = False,
    tracking_uri: Uri = None,
    experiment: Experiment = "tunesmith",
    store: Annotated[str | None, typer.Option(help="The store, where it is not where the run says.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a model came from, what has changed at its source since, and what disagrees.

    Without RUN or MODEL: all trainings of the experiment. Data that has grown, changed or gone since the training is
    listed and is not an error. The exit code is 1 if Prefect, MLflow, the store and the model's manifests disagree.
    """
    from pipeline_lib.audit.audit import audited
    from pipeline_lib.tracking.errors import reading_errors

    uri = _uri(tracking_uri)
    try:
        with reading_errors(uri):
            report = audited(uri, target, experiment, store, repair)
    except RecipeError as error:
        _fail(error)
    if as_json:
        typer.echo(json.dumps(report.as_json(), indent=1, ensure_ascii=False))
    else:
        for line in report.lines(whole=target is not None):
            typer.echo(line)
    raise typer.Exit(1 if report.disagrees else 0)


def reproduce(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A training's run in MLflow, or its model's address.")],
    store: Annotated[Path | None, typer.Option(help="A new folder to run it in; empty: reproduced-RUN here.")] = None,
    tracking_uri: Uri = None,
    as_json: AsJson = False,
) -> None:
    """Run a training again from what MLflow holds, in a store of its own, and compare weights and predictions.

    The exit code is 1 where they are not the same bytes.
    """
    from pipeline_lib.audit.reproduce import reproduce as again
    from pipeline_lib.tracking.errors import reading_errors
    from pipeline_lib.tracking.search import TrainingSearch

    uri = _uri(tracking_uri)
    try:
        with reading_errors(uri):
            held = TrainingSearch(uri).training(run)
            report = again(held, (store or Path(f"reproduced-{held.training.id[:8]}")).absolute())
    except RecipeError as error:
        _fail(error)
    if as_json:
        typer.echo(json.dumps(report.as_json(), indent=1, ensure_ascii=False))
    else:
        for line in report.lines():
            typer.echo(line)
    raise typer.Exit(0 if report.same else 1)


def _uri(given: str | None) -> str:
    from pipeline_lib.recipe.execution import Execution, tracking_uri

    return tracking_uri(Execution(tracking_uri=given))


def _fail(error: RecipeError) -> NoReturn:
    typer.secho(str(error), err=True, fg="red")
    raise typer.Exit(2)
