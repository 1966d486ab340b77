"""`tunesmith score`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline_lib.cli.console import fail
from pipeline_lib.errors import RecipeError


def score(
    model: Annotated[str, typer.Argument(help="models:/NAME@champion, models:/ID, or a trained model's folder.")],
    data: Annotated[list[str], typer.Argument(help="Parquet files, globs or folders.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    columns: Annotated[list[str] | None, typer.Option("--column", help="role=column, such as text=message")] = None,
    shard_rows: Annotated[int, typer.Option(help="Rows that are answered at once and kept.")] = 10_000,
    store: Annotated[str, typer.Option(help="The artifact store.")] = "artifacts",
) -> None:
    """Answer the rows of Parquet files with a trained model; what was answered before is reused."""
    from pydantic import ValidationError

    from pipeline_lib.recipe.validation_errors import explain
    from pipeline_lib.scoring import score as scoring
    from pipeline_lib.scoring.request import Scoring

    named = dict(column.partition("=")[::2] for column in columns or [])
    document: dict[str, Any] = {"model": model, "data": data, "out": str(out), "columns": named}
    document |= {"shard_rows": shard_rows, "store": store}
    try:
        request = Scoring.model_validate(document)
        files, found = scoring.files(request), scoring.fetch(request)
        for file in files:
            typer.echo(scoring.score(request, found, file).file)  # stderr has the rows and what was reused
    except (RecipeError, ValidationError) as error:
        fail(explain(error, Scoring, document) if isinstance(error, ValidationError) else error)
