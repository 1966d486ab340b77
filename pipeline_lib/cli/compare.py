"""`tunesmith compare A B`."""

from typing import Annotated

import typer

from pipeline_lib.cli.console import fail, wide
from pipeline_lib.errors import RecipeError

Side = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE|FOLDER|RUN",
        help="A recipe that has been run, the folder of an evaluation, or a run id or models:/ address in MLflow.",
    ),
]


def compare(
    a: Side,
    b: Side,
    level: Annotated[float, typer.Option(min=0.5, max=0.999, help="Confidence level of the intervals.")] = 0.95,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow's address, as in `execution.tracking_uri`.")] = None,
) -> None:
    """Compare two runs on the same test rows, metric by metric, by a paired bootstrap."""
    from pipeline_lib.comparison.comparison import comparison
    from pipeline_lib.comparison.runs import find_evaluation
    from pipeline_lib.recipe.execution import Execution
    from pipeline_lib.recipe.execution import tracking_uri as address

    try:
        uri = address(Execution(tracking_uri=tracking_uri))
        result = comparison(find_evaluation(a, uri), find_evaluation(b, uri), level)
    except RecipeError as error:
        fail(error)
    wide().print(result.table)
    typer.echo(result.summary)
