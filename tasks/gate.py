"""The gate of a retraining as Prefect tasks, and how a flow run ends that came to a decision."""

from typing import Any

from prefect.artifacts import create_markdown_artifact
from prefect.states import Completed

from pipeline_lib.recipe import Recipe
from pipeline_lib.retrain import conclude as ending
from pipeline_lib.retrain import look as looking
from pipeline_lib.retrain.decide import Decision
from pipeline_lib.retrain.gate import Gate
from pipeline_lib.retrain.look import Look
from pipeline_lib.retrain.show import markdown
from pipeline_lib.run import RunOutcome
from pipeline_lib.store.artifact import Artifact
from tasks.steps import step
from tasks.told import by


@step
def ask(recipe: Recipe, gate: Gate) -> Look:
    """Whether anything is new since the champion was trained."""
    return looking.ask(recipe, gate)


@step
def look(recipe: Recipe, gate: Gate, seen: Look, prepared: Artifact) -> Look:
    """How far the data has moved since the champion was trained."""
    return looking.look(recipe, gate, seen, prepared, by())


@step
def conclude(recipe: Recipe, gate: Gate, seen: Look, runs: list[RunOutcome]) -> Decision:
    """Judge the challengers, register one, promote it or not."""
    return ending.conclude(recipe, gate, seen, runs, by())


def ended(recipe: Recipe, gate: Gate, decision: Decision) -> Any:
    """The decision, in a state whose name is the verdict, for automations to act on; shown as an artifact."""
    name = gate.name(recipe)
    create_markdown_artifact(
        markdown(decision, name), key="retrain-decision", description=f"{name}: {decision.verdict}"
    )
    return Completed(name=decision.verdict.capitalize(), message=decision.reason, data=decision)
