"""Fine-tune one model: from a complete recipe to a scored model in MLflow."""

from pipeline_lib.pipeline.run import RunOutcome
from pipeline_lib.recipe.schema import Recipe
from tasks import steps
from tasks.flow import pipeline_flow
from tasks.names import run_name


@pipeline_flow("finetune-recipe", flow_run_name=run_name)
def finetune(recipe: Recipe) -> RunOutcome:
    """Encode and prepare the data, initialise the model, check both, fine-tune, evaluate, and publish the result."""
    files = steps.encode(recipe)
    data = steps.prepare(recipe, files)
    start = steps.initialise(recipe, data)
    found = steps.checks(recipe, data, start)
    model = steps.finetune(recipe, data, start)
    scores = steps.evaluate(recipe, data, found, model)
    return steps.publish(recipe, data, start, found, model, scores)
