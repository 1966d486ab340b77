"""Try many recipes on the same rows: from recipes and values to one comparison."""

from prefect import flow

from pipeline_lib.recipe import Recipe
from pipeline_lib.store.artifact import Artifact
from pipeline_lib.sweep.sweep import plan
from pipeline_lib.sweep.trials import Sweep
from tasks import trials
from tasks.guard import guarded
from tasks.mistakes import in_our_words
from tasks.told import cancelled


@flow(name="sweep", validate_parameters=False, persist_result=False, on_crashed=[cancelled])
@in_our_words
@guarded
def sweep(recipes: list[Recipe], settings: Sweep = Sweep()) -> Artifact:
    """Run recipes x values x seeds, and compare what came of them."""
    planned = plan(recipes, settings)
    return trials.compare(planned, trials.ended(planned, settings), settings)
