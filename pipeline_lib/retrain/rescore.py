"""The step `rescore`: what a registered model, as it is served, answers to today's test rows."""

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.data.examples import Examples
from pipeline_lib.data.prepared import read_split
from pipeline_lib.errors import RecipeError
from pipeline_lib.evaluation.predictions_file import in_groups, write_predictions
from pipeline_lib.evaluation.predictor import LoadedModel
from pipeline_lib.training.reference import with_reference

if TYPE_CHECKING:
    from pipeline_lib.recipe.schema import Recipe


def write_rescored(
    recipe: "Recipe",
    prepared: Path,
    shards: Path,
    model: Path,
    base: Path | None,
    reference: Path | None,
    folder: Path,
) -> None:
    """Write outcome.parquet. Rows are encoded anew: the model may have another tokenizer than its challenger.

    Raises RecipeError where it then cannot be compared with the recipe's base as its reference.
    """
    rows = read_split(prepared, shards, "test")
    answerer = LoadedModel(model, base, recipe.execution.device)
    split = answerer.split(rows.to_pylist())
    if reference:
        split = split._replace(encoded=_compared(recipe, split.encoded, reference))
    outcome, told = answerer.objective.metric_inputs(*answerer.read(split)), split._replace(rows=rows)
    write_predictions(in_groups(outcome, told), told, recipe.objective.model_columns, folder)


def _compared(recipe: "Recipe", encoded: Examples, reference: Path) -> Examples:
    try:
        return with_reference(encoded, reference, "test")
    except ValueError:
        problem = "has another tokenizer than the champion, so that their preferences cannot be compared"
        raise RecipeError("model.base", recipe.model.base, problem, "Train a first model on this base") from None
