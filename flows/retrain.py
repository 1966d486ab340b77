"""Retrain a model where its data has grown, behind a gate: from a recipe to a decision about the champion."""

from prefect import flow

from flows.finetune import finetune
from pipeline_lib.recipe import Recipe
from pipeline_lib.retrain.decide import Decision
from pipeline_lib.retrain.gate import Gate
from pipeline_lib.retrain.look import challengers
from tasks import gate as gates
from tasks import steps
from tasks.guard import guarded
from tasks.mistakes import in_our_words
from tasks.names import run_name
from tasks.told import cancelled


@flow(name="retrain", flow_run_name=run_name, validate_parameters=False, persist_result=False, on_crashed=[cancelled])
@in_our_words
@guarded
def retrain(recipe: Recipe, gate: Gate = Gate()) -> Decision:
    """Look at the data, train challengers, and promote one where the gate lets it through."""
    seen = gates.ask(recipe, gate)
    if not seen.ends:
        seen = gates.look(recipe, gate, seen, steps.prepare(recipe, steps.encode(recipe)))
    if seen.ends:
        return gates.ended(recipe, gate, seen.ends)
    runs = [finetune(each) for each in challengers(recipe, gate)]
    return gates.ended(recipe, gate, gates.conclude(recipe, gate, seen, runs))
