"""`tunesmith score`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline_lib.cli.console import fail
from pipeline_lib.errors import RecipeError


def score(
    model: Annotated[str, typer.Argument(help="models:/NAME@champion, models:/ID, or a trained model's folder.")],
    data: Annotated[list[str], typer.Argument(help="Parquet files, globs or folders.")],
    out: Annotated[Path, typer.Option(help="The folder for the predictions.")],
    columns: Annotated[list[str] | None, typer.Option("--column", help="role=column, such as text=message")] = None,
    shard_rows: Annotated[int, typer.Option(help="Rows per shard; finished shards are reused by a rerun.")] = 10_000,
    store: Annotated[str, typer.Option(envvar="TUNESMITH_STORE", help="The artifact store.")] = "artifacts",
) -> None:
    """Predict the rows of Parquet files with a trained model; earlier predictions of the same rows are reused."""
    from pydantic import ValidationError

    from pipeline_lib.recipe.validation_errors import first_mistake
    from pipeline_lib.scoring import score as scoring
    from pipeline_lib.scoring.request import Scoring

    column_by_role = dict(column.partition("=")[::2] for column in columns or [])
    document: dict[str, Any] = {"model": model, "data": data, "out": str(out), "columns": column_by_role}
    document |= {"shard_rows": shard_rows, "store": store}
    try:
        request = Scoring.model_validate(document)
        files = scoring.files(request)
        fetched = scoring.fetch_model(request)
        for file in files:
            typer.echo(scoring.score(request, fetched, file).file)  # the numbers of rows are logged to stderr
    except (RecipeError, ValidationError) as error:
        fail(first_mistake(error, Scoring, document) if isinstance(error, ValidationError) else error)
