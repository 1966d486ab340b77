"""Retrain a model on new data, and let a gate decide whether it replaces the champion."""

from flows.finetune import finetune
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.retrain.gate import Gate
from pipeline_lib.retrain.gate_checks import Decision
from pipeline_lib.retrain.preflight import challengers
from tasks import gate as gates
from tasks import steps
from tasks.flow import pipeline_flow
from tasks.names import run_name


@pipeline_flow("retrain", flow_run_name=run_name)
def retrain(recipe: Recipe, gate: Gate = Gate()) -> Decision:
    """Check the data for changes, train challengers, and promote one if it passes the gate."""
    seen = gates.ask(recipe, gate)
    if not seen.ends:
        seen = gates.look(recipe, gate, seen, steps.prepare(recipe, steps.encode(recipe)))
    if seen.ends:
        return gates.verdict_state(recipe, gate, seen.ends)
    runs = [finetune(challenger) for challenger in challengers(recipe, gate)]
    return gates.verdict_state(recipe, gate, gates.conclude(recipe, gate, seen, runs))
