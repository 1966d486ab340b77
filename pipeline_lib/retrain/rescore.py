"""The step `rescore`: predict the current test rows with a registered model, as it is served."""

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.data.examples import Examples
from pipeline_lib.data.prepared import read_split
from pipeline_lib.errors import RecipeError
from pipeline_lib.evaluation.predictions_file import assign_groups, write_predictions
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
    """Write outcome.parquet, with rows encoded by the model's own tokenizer, which may differ from the challenger's.

    Raises:
        RecipeError: If the tokenizer differs and the objective needs log-probabilities of the recipe's base.
    """
    rows = read_split(prepared, shards, "test")
    champion = LoadedModel(model, base, recipe.execution.device)
    split = champion.split(rows.to_pylist())
    if reference:
        split = split._replace(encoded=_add_reference(recipe, split.encoded, reference))
    outcome = champion.objective.metric_inputs(*champion.read(split))
    original = split._replace(rows=rows)  # row hashes and groups must be those of the prepared rows
    write_predictions(assign_groups(outcome, original), original, recipe.objective.model_columns, folder)


def _add_reference(recipe: "Recipe", encoded: Examples, reference: Path) -> Examples:
    """Add the reference's log-probabilities to the examples."""
    try:
        return with_reference(encoded, reference, "test")
    except ValueError:
        problem = "has another tokenizer than the champion, so their preferences cannot be compared"
        raise RecipeError("model.base", recipe.model.base, problem, "Train a first model on this base") from None
