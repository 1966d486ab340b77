"""The steps of a run as Prefect tasks. The store is the one cache: Prefect shows what it did, and no more."""

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from prefect.states import Completed

from pipeline_lib import steps
from pipeline_lib.recipe import Recipe
from pipeline_lib.run import RunOutcome
from pipeline_lib.store import Artifact


@task(cache_policy=NO_CACHE, persist_result=False)
def prepare(recipe: Recipe) -> Artifact:
    """Read, check, split and encode the data."""
    return _told(steps.prepare(recipe, _by()))


@task(cache_policy=NO_CACHE, persist_result=False)
def initialise(recipe: Recipe, prepared: Artifact) -> Artifact:
    """Add the new head and the strategies' modules to the base model."""
    return _told(steps.initialise(recipe, prepared, _by()))


@task(cache_policy=NO_CACHE, persist_result=False)
def finetune(recipe: Recipe, prepared: Artifact, initial: Artifact) -> Artifact:
    """Train, going on from a checkpoint where there is one."""
    return _told(steps.finetune(recipe, prepared, initial, _by()))


@task(cache_policy=NO_CACHE, persist_result=False)
def evaluate(recipe: Recipe, prepared: Artifact, model: Artifact) -> Artifact:
    """Predict the test rows and score them."""
    return _told(steps.evaluate(recipe, prepared, model, _by()))


@task(cache_policy=NO_CACHE, persist_result=False, retries=2, retry_delay_seconds=10)
def publish(recipe: Recipe, prepared: Artifact, initial: Artifact, model: Artifact, scores: Artifact) -> RunOutcome:
    """Bring model and scores to MLflow."""
    addresses = steps.publish(recipe, prepared, model, scores, _by())
    return RunOutcome(prepared, initial, model, scores, addresses)


def _told(artifact: Artifact) -> Any:
    """The artifact, in a state whose name and message say whether it was made or reused; Prefect unwraps it."""
    return Completed(name="Reused" if artifact.reused else "Completed", message=artifact.message, data=artifact)


def _by() -> str:
    return f"flow run {flow_run.name} ({flow_run.id})"
