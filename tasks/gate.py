"""The retraining gate as Prefect tasks, and the final state of a flow run that reached a decision."""

from typing import Any

from prefect.artifacts import create_markdown_artifact
from prefect.states import Completed

from pipeline_lib.pipeline.run import RunOutcome
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.retrain import preflight as looking
from pipeline_lib.retrain import promotion as ending
from pipeline_lib.retrain.decision_page import decision_markdown
from pipeline_lib.retrain.gate import Gate
from pipeline_lib.retrain.gate_checks import Decision
from pipeline_lib.retrain.preflight import Preflight
from pipeline_lib.store.artifacts import Artifact
from tasks.states import current_flow_run
from tasks.steps import step


@step
def ask(recipe: Recipe, gate: Gate) -> Preflight:
    """Check whether the data or the recipe has changed since the champion was trained."""
    return looking.refuse_unfit(recipe, gate)


@step
def look(recipe: Recipe, gate: Gate, seen: Preflight, prepared: Artifact) -> Preflight:
    """Measure how far the data has drifted since the champion was trained."""
    return looking.prepare_retraining(recipe, gate, seen, prepared, current_flow_run())


@step
def conclude(recipe: Recipe, gate: Gate, seen: Preflight, runs: list[RunOutcome]) -> Decision:
    """Evaluate the challengers, register the best one, and decide whether to promote it."""
    return ending.decide_promotion(recipe, gate, seen, runs, current_flow_run())


def verdict_state(recipe: Recipe, gate: Gate, decision: Decision) -> Any:
    """Return a state named after the verdict, which automations can match, and show the decision as an artifact."""
    name = gate.name(recipe)
    create_markdown_artifact(
        decision_markdown(decision, name), key="retrain-decision", description=f"{name}: {decision.verdict}"
    )
    return Completed(name=decision.verdict.capitalize(), message=decision.reason, data=decision)
