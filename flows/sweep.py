"""Run many variants of recipes on the same rows and compare them."""

from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.artifacts import Artifact
from pipeline_lib.sweep.sweep import plan_trials
from pipeline_lib.sweep.trials import Sweep
from tasks import trials
from tasks.flow import pipeline_flow
from tasks.names import run_name


@pipeline_flow("sweep", flow_run_name=run_name)
def sweep(recipes: list[Recipe], settings: Sweep = Sweep()) -> Artifact:
    """Run all combinations of recipes, values and seeds, and compare the results."""
    planned = plan_trials(recipes, settings)
    return trials.compare(planned, trials.run_trials(planned, settings), settings)
