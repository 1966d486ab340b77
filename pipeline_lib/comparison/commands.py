"""`tunesmith compare A B`: two runs on the same test rows, and in plain words which differences are beyond chance."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline_lib.console import fail, wide
from pipeline_lib.errors import RecipeError

Side = Annotated[Path, typer.Argument(metavar="RECIPE_OR_FOLDER", help="A recipe that was run, or an evaluation.")]


def compare(
    a: Side,
    b: Side,
    level: Annotated[float, typer.Option(min=0.5, max=0.999, help="Confidence level of the intervals.")] = 0.95,
) -> None:
    """Compare two runs on the same test rows, metric by metric, by a paired bootstrap."""
    from pipeline_lib.comparison.comparison import comparison
    from pipeline_lib.comparison.runs import evaluated

    try:
        found = comparison(evaluated(a), evaluated(b), level)
    except RecipeError as error:
        fail(error)
    wide().print(found.table)
    typer.echo(found.summary)
