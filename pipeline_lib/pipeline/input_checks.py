"""Check before any work that a recipe's files, columns, base model and device exist."""

from pipeline_lib.data.shards import refuse_missing_columns
from pipeline_lib.data.splits import SPLITS
from pipeline_lib.models.base_model import locate_base
from pipeline_lib.preflight.packages import require_extras
from pipeline_lib.recipe.path_policy import refuse_files_outside, refuse_outside
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.tracking import availability
from pipeline_lib.training.distributed.sharding import refuse_sharding
from pipeline_lib.util.redaction import redact_errors


@redact_errors()
def check_inputs(recipe: Recipe) -> None:
    """Raise RecipeError if the base model, a package, a file, a column or the device is missing.

    Reads one row of each file and does not load the model.
    """
    execution = recipe.execution
    require_extras(recipe)
    refuse_sharding(recipe)
    if execution.when_mlflow_is_down == "fail":
        availability.wait_for_mlflow(execution, availability.WAIT)
    check_files(recipe)
    needs_gpu = execution.device == "cuda" or execution.precision == "fp16" or execution.compile
    if needs_gpu or execution.attention == "flash_attention_2" or execution.processes > 1:
        from pipeline_lib.training.device import accelerator  # only these need torch, which is slow to import

        accelerator(execution)


@redact_errors()
def check_files(recipe: Recipe) -> None:
    """Raise RecipeError if the base model, a file or a column is missing."""
    refuse_outside(recipe)  # checked again: links may have changed since the recipe was loaded
    locate_base(recipe.model)
    files = {split: recipe.data.source.files(split) for split in SPLITS}
    refuse_files_outside(recipe.data.source, files)
    test_rows_from = "test" if files["test"] else "train"
    for split in SPLITS:
        for file in files[split]:
            slice_columns = recipe.evaluation.columns if split == test_rows_from else {}
            refuse_missing_columns(recipe.data, recipe.objective, slice_columns, file, split)
