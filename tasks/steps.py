"""The steps of a run as Prefect tasks. The store is the one cache: Prefect shows what it did, and no more."""

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed

from pipeline_lib import steps
from pipeline_lib.data.encode import Encoded
from pipeline_lib.recipe import Recipe
from pipeline_lib.run import RunOutcome
from pipeline_lib.store.store import Artifact
from tasks.runners import task_runner
from tasks.shards import mapped
from tasks.told import by, told


@task(cache_policy=NO_CACHE, persist_result=False)
def encode(recipe: Recipe) -> Encoded:
    """Encode the source files that are not in the store, each as a task run of its own."""
    encoded = steps.encode(recipe, by(), mapped(task_runner(recipe.execution)))
    state: Any = Completed(name="Completed" if encoded.made else "Reused", message=encoded.message, data=encoded)
    return state


@task(cache_policy=NO_CACHE, persist_result=False)
def prepare(recipe: Recipe, encoded: Encoded) -> Artifact:
    """Check the rows, share them out, list the labels."""
    return told(steps.prepare(recipe, encoded, by()))


@task(cache_policy=NO_CACHE, persist_result=False)
def initialise(recipe: Recipe, prepared: Artifact) -> Artifact:
    """Add the new head and the strategies' modules to the base model."""
    return told(steps.initialise(recipe, prepared, by()))


@task(cache_policy=NO_CACHE, persist_result=False)
def checks(recipe: Recipe, prepared: Artifact, initial: Artifact) -> Artifact:
    """Look for what spoils a training or its scores; some of it stops the run, as the recipe says."""
    return told(steps.checks(recipe, prepared, initial, by()))


@task(cache_policy=NO_CACHE, persist_result=False)
def finetune(recipe: Recipe, prepared: Artifact, initial: Artifact) -> Artifact:
    """Train, going on from a checkpoint where there is one."""
    return told(steps.finetune(recipe, prepared, initial, by()))


@task(cache_policy=NO_CACHE, persist_result=False)
def evaluate(recipe: Recipe, prepared: Artifact, found: Artifact, model: Artifact) -> Artifact:
    """Predict the test rows and score them."""
    return told(steps.evaluate(recipe, prepared, found, model, by()))


@task(cache_policy=NO_CACHE, persist_result=False, retries=2, retry_delay_seconds=10)
def publish(
    recipe: Recipe, prepared: Artifact, initial: Artifact, found: Artifact, model: Artifact, scores: Artifact
) -> RunOutcome:
    """Bring model and scores to MLflow."""
    addresses = steps.publish(recipe, prepared, model, scores, by())
    return RunOutcome(prepared, initial, found, model, scores, addresses)
