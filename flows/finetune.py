"""Fine-tune one model: from a complete recipe to a scored model in MLflow."""

from prefect import flow

from pipeline_lib.recipe import Recipe
from pipeline_lib.run import RunOutcome
from tasks import steps
from tasks.guard import guarded
from tasks.mistakes import in_our_words
from tasks.names import run_name
from tasks.told import cancelled


@flow(
    name="finetune-recipe",
    flow_run_name=run_name,
    validate_parameters=False,
    persist_result=False,
    on_crashed=[cancelled],
)
@in_our_words
@guarded
def finetune(recipe: Recipe) -> RunOutcome:
    """Encode and prepare the data, initialise the model, check both, fine-tune, evaluate, and publish the result."""
    files = steps.encode(recipe)
    data = steps.prepare(recipe, files)
    start = steps.initialise(recipe, data)
    found = steps.checks(recipe, data, start)
    model = steps.finetune(recipe, data, start)
    scores = steps.evaluate(recipe, data, found, model)
    return steps.publish(recipe, data, start, found, model, scores)
