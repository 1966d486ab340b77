"""Retrain a recipe on the worker by its name, which is short enough for the dialog of a schedule."""

from flows.retrain import retrain
from pipeline_lib.recipe.short_form import UNSET, RecipeName, Texts, load_short_form
from pipeline_lib.retrain.gate import Gate
from pipeline_lib.retrain.gate_checks import Decision
from tasks.flow import pipeline_flow
from tasks.names import run_name


@pipeline_flow("retrain-by-name", flow_run_name=run_name)
def retrain_by_name(recipe: RecipeName, overrides: Texts = UNSET, gate: Gate = Gate()) -> Decision:
    """Retrain a recipe from the worker's recipe folder ($TUNESMITH_RECIPES), with some values changed.

    Args:
        recipe: The recipe to retrain.
        overrides: Fields of the recipe to change, as path=value, such as training.epochs=5.
        gate: The conditions under which the new model is promoted.
    """
    return retrain.fn(load_short_form(recipe, {}, overrides), gate)
