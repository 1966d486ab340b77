"""The steps of a run as Prefect tasks. Caching is left to the store; Prefect only shows what it did."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed

from pipeline_lib.data.encoding import EncodedFiles
from pipeline_lib.pipeline import steps
from pipeline_lib.pipeline.run import RunOutcome
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.artifacts import Artifact
from tasks.progress import ProgressArtifact
from tasks.retries import can_pass
from tasks.runners import task_runner
from tasks.shards import spread_over
from tasks.states import as_state, current_flow_run, show_scores

P = ParamSpec("P")
R = TypeVar("R")


def step(function: Callable[P, R]) -> Task[P, R]:
    """Make a task that Prefect does not cache, and that is retried after transient failures."""
    step_task = task(
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=2,
        retry_delay_seconds=[10, 60],
        retry_condition_fn=can_pass,
    )
    return step_task(function)


@step
def encode(recipe: Recipe) -> EncodedFiles:
    """Encode the source files that are not in the store yet, each in its own task run."""
    encoded = steps.encode(recipe, current_flow_run(), spread_over(task_runner(recipe.execution)))
    state: Any = Completed(
        name="Completed" if encoded.newly_encoded else "Reused", message=encoded.message, data=encoded
    )
    return state


@step
def prepare(recipe: Recipe, encoded: EncodedFiles) -> Artifact:
    """Validate the rows, split them, and list the labels."""
    return as_state(steps.prepare(recipe, encoded, current_flow_run()))


@step
def initialise(recipe: Recipe, prepared: Artifact) -> Artifact:
    """Add the new head and the strategies' modules to the base model."""
    return as_state(steps.initialise(recipe, prepared, current_flow_run()))


@step
def checks(recipe: Recipe, prepared: Artifact, initial: Artifact) -> Artifact:
    """Look for problems that would spoil the training or its scores; the recipe decides which of them stop the run."""
    return as_state(steps.checks(recipe, prepared, initial, current_flow_run()))


@step
def finetune(recipe: Recipe, prepared: Artifact, initial: Artifact) -> Artifact:
    """Train the model, resuming from a checkpoint if there is one."""
    return as_state(steps.finetune(recipe, prepared, initial, current_flow_run(), show=ProgressArtifact(recipe.name)))


@step
def evaluate(recipe: Recipe, prepared: Artifact, found: Artifact, model: Artifact) -> Artifact:
    """Predict the test rows and compute the metrics."""
    return as_state(steps.evaluate(recipe, prepared, found, model, current_flow_run()))


@step
def publish(
    recipe: Recipe, prepared: Artifact, initial: Artifact, found: Artifact, model: Artifact, scores: Artifact
) -> RunOutcome:
    """Log the model and its scores to MLflow, and link to them."""
    addresses = steps.publish(recipe, prepared, model, scores, current_flow_run())
    show_scores(recipe.name, scores, addresses)
    return RunOutcome(prepared, initial, found, model, scores, addresses)
