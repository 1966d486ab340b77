"""Fine-tune by the name of a recipe that the worker keeps: for people who only want to press run."""

from prefect import flow

from flows.finetune import finetune
from pipeline_lib.recipe_file import by_name
from pipeline_lib.run import RunOutcome
from tasks.settle import settled
from tasks.told import cancelled


@flow(
    name="finetune-by-name",
    flow_run_name="{recipe}",
    persist_result=False,
    on_crashed=[cancelled, settled],
    on_cancellation=[settled],
)
def finetune_by_name(recipe: str = "demo", overrides: list[str] | None = None) -> RunOutcome:
    """Run a recipe of the worker's folder of recipes ($TUNESMITH_RECIPES), with some values changed.

    Args:
        recipe: The recipe's file without .yaml, such as demo, banking77 or sst2.
        overrides: Values to change, each as path=value, such as training.epochs=5.
    """
    return finetune.fn(by_name(recipe, overrides or []))
