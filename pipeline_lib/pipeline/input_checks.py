"""Whether the files, columns, base model and device that a recipe names are there: seen before any work."""

from pipeline_lib.data.shards import refuse_missing_columns
from pipeline_lib.data.splits import SPLITS
from pipeline_lib.models.base_model import locate
from pipeline_lib.recipe.path_policy import refuse_files_outside, refuse_outside
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.tracking import availability
from pipeline_lib.util.redaction import redact_errors


@redact_errors()
def check(recipe: Recipe) -> None:
    """Raise RecipeError for a base model, a file or a column that is not there. Reads a row of each file, no model."""
    execution = recipe.execution
    if execution.when_mlflow_is_down == "fail":
        availability.wait_for_mlflow(execution, availability.WAIT)
    check_inputs(recipe)
    if execution.device == "cuda" or execution.precision == "fp16" or execution.processes > 1:
        from pipeline_lib.training.device import accelerator  # only these need torch to be asked

        accelerator(execution)


@redact_errors()
def check_inputs(recipe: Recipe) -> None:
    """Raise RecipeError where the base model, a file or a column is not there."""
    refuse_outside(recipe)  # once more: links may have changed since the recipe was read
    locate(recipe.model)
    files = {split: recipe.data.source.files(split) for split in SPLITS}
    refuse_files_outside(recipe.data.source, files)
    held_in = "test" if files["test"] else "train"
    for split in SPLITS:
        for file in files[split]:
            sliced = recipe.evaluation.columns if split == held_in else {}
            refuse_missing_columns(recipe.data, recipe.objective, sliced, file, split)
