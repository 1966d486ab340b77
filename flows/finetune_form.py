"""Fine-tune from the short form: a recipe on the worker, and the values that change from run to run."""

from flows.finetune import finetune
from pipeline_lib.pipeline.run import RunOutcome
from pipeline_lib.recipe.short_form import (
    AS_IN_RECIPE,
    UNSET,
    Count,
    Rate,
    RecipeName,
    Seed,
    Strategy,
    Text,
    Texts,
    load_short_form,
)
from tasks.flow import pipeline_flow
from tasks.names import run_name


@pipeline_flow("finetune", flow_run_name=run_name)
def finetune_form(
    recipe: RecipeName,
    train: Text = UNSET,
    test: Text = UNSET,
    base: Text = UNSET,
    strategy: Strategy = AS_IN_RECIPE,
    epochs: Count = UNSET,
    learning_rate: Rate = UNSET,
    batch_size: Count = UNSET,
    seed: Seed = UNSET,
    name: Text = UNSET,
    overrides: Texts = UNSET,
) -> RunOutcome:
    """Run a recipe from the worker's recipe folder ($TUNESMITH_RECIPES), with some values changed.

    Args:
        recipe: The recipe to run. Fields left empty below keep the recipe's value. If the worker does not have the
            recipe's data, set `train` (and `test`).
        train: Training data: a file, glob or folder on the worker.
        test: Test data: a file, glob or folder on the worker.
        base: The model to start from: a folder, a hub id (org/name), or package:NAME/folder.
        strategy: Which parameters are trained, and how.
        epochs: Passes over the training data.
        learning_rate: The peak learning rate, such as 5e-5.
        batch_size: Rows per optimizer step.
        seed: Random seed of the new head's weights, the order of rows and dropout.
        name: The name in MLflow: letters, digits, dots, dashes and underscores.
        overrides: Any other field of the recipe, as path=value, such as training.warmup=0.1.
    """
    values = {
        "train": train,
        "test": test,
        "base": base,
        "strategy": strategy,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "seed": seed,
        "name": name,
    }
    return finetune.fn(load_short_form(recipe, values, overrides))
