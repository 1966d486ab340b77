"""A whole retraining as plain calls: look at the data, train challengers, decide. The flow takes the same steps."""

from pipeline_lib import steps
from pipeline_lib.recipe import Recipe
from pipeline_lib.retrain.conclude import conclude
from pipeline_lib.retrain.decide import Decision
from pipeline_lib.retrain.gate import Gate
from pipeline_lib.retrain.look import ask, challengers, look
from pipeline_lib.run import run


def retrain(recipe: Recipe, gate: Gate, by: str = "a plain call") -> Decision:
    """Train a challenger where something is new, and promote it where the gate lets it through."""
    seen = ask(recipe, gate)
    if not seen.ends:
        seen = look(recipe, gate, seen, steps.prepare(recipe, by=by), by)
    if seen.ends:
        return seen.ends
    return conclude(recipe, gate, seen, [run(each, by) for each in challengers(recipe, gate)], by)
