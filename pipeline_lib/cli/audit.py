"""`tunesmith audit [RUN|MODEL]` and `tunesmith reproduce RUN`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline_lib.cli.console import fail
from pipeline_lib.errors import RecipeError

Uri = Annotated[str | None, typer.Option("--tracking-uri", help="MLflow's address, as in execution.tracking_uri.")]
Experiment = Annotated[
    str, typer.Option("--experiment", help="The MLflow experiment to audit if no RUN or MODEL is given.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def audit(
    target: Annotated[
        str | None, typer.Argument(metavar="RUN|MODEL", help="A run's id, models:/NAME/VERSION or models:/ID.")
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="End the runs that a killed process left RUNNING.")] = False,
    tracking_uri: Uri = None,
    experiment: Experiment = "tunesmith",
    store: Annotated[str | None, typer.Option(help="The store, if it has moved since the run.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show where a model comes from, how its data has changed since, and whether all records agree.

    Without RUN or MODEL, audit all trainings of the experiment. Data that has been extended, changed or removed since
    the training is listed, but is not an error. The exit code is 1 if Prefect, MLflow, the store and the model's
    manifests disagree.
    """
    from pipeline_lib.audit.audit import audit_trainings
    from pipeline_lib.tracking.errors import describe_read_errors

    uri = _uri(tracking_uri)
    try:
        with describe_read_errors(uri):
            report = audit_trainings(uri, target, experiment, store, repair)
    except RecipeError as error:
        fail(error)
    if as_json:
        typer.echo(json.dumps(report.as_json(), indent=1, ensure_ascii=False))
    else:
        for line in report.lines(whole=target is not None):
            typer.echo(line)
    raise typer.Exit(1 if report.disagrees else 0)


def reproduce(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A training run's id in MLflow, or the models:/ address of its model.")
    ],
    store: Annotated[
        Path | None, typer.Option(help="A new folder for the store; default: reproduced-RUN in this folder.")
    ] = None,
    tracking_uri: Uri = None,
    as_json: AsJson = False,
) -> None:
    """Repeat a training from its records in MLflow, in a new store, and compare weights and predictions.

    The exit code is 1 if they are not byte-identical.
    """
    from pipeline_lib.audit.reproduce import reproduce as again
    from pipeline_lib.tracking.errors import describe_read_errors
    from pipeline_lib.tracking.search import TrainingSearch

    uri = _uri(tracking_uri)
    try:
        with describe_read_errors(uri):
            records = TrainingSearch(uri).find_training(run)
            report = again(records, (store or Path(f"reproduced-{records.training.id[:8]}")).absolute())
    except RecipeError as error:
        fail(error)
    if as_json:
        typer.echo(json.dumps(report.as_json(), indent=1, ensure_ascii=False))
    else:
        for line in report.lines():
            typer.echo(line)
    raise typer.Exit(0 if report.same else 1)


def _uri(given: str | None) -> str:
    from pipeline_lib.recipe.execution import Execution, tracking_uri

    return tracking_uri(Execution(tracking_uri=given))
