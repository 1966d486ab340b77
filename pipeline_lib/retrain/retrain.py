"""A retraining as plain calls: check the data, train challengers, decide. The flow takes the same steps."""

from pipeline_lib.pipeline import steps
from pipeline_lib.pipeline.run import run
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.retrain.gate import Gate
from pipeline_lib.retrain.gate_checks import Decision
from pipeline_lib.retrain.preflight import challengers, prepare_retraining, refuse_unfit
from pipeline_lib.retrain.promotion import decide_promotion


def retrain(recipe: Recipe, gate: Gate, made_by: str = "a plain call") -> Decision:
    """Train challengers if anything is new, and promote one of them if it passes the gate."""
    seen = refuse_unfit(recipe, gate)
    if not seen.ends:
        seen = prepare_retraining(recipe, gate, seen, steps.prepare(recipe, made_by=made_by), made_by)
    if seen.ends:
        return seen.ends
    runs = [run(challenger, made_by) for challenger in challengers(recipe, gate)]
    return decide_promotion(recipe, gate, seen, runs, made_by)
