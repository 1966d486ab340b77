"""A sweep's comparison in MLflow, beside the runs that it compares."""

from pipeline_lib.recipe import Recipe
from pipeline_lib.store.artifact import Artifact
from pipeline_lib.tracking.refusals import while_delivering
from pipeline_lib.tracking.runs import Tracker


def deliver_comparison(recipe: Recipe, comparison: Artifact, by: str) -> None:
    """Log a comparison's files once; raises RecipeError where MLflow does not take them."""
    with while_delivering(recipe.execution, comparison.fingerprint):
        tracker = Tracker(recipe, by)
        run = tracker.run("sweep", comparison.fingerprint)
        if run.info.status != "FINISHED":
            tracker.client.log_artifacts(run.info.run_id, str(comparison.folder))
            tracker.finish(run.info.run_id)
        tracker.finish(run.data.tags["mlflow.parentRunId"])
