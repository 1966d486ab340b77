"""A run that is finished: its artifacts, found by its recipe."""

from pipeline_lib.errors import RecipeError
from pipeline_lib.pipeline import steps
from pipeline_lib.pipeline.plan import plan
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.lineage import Lineage, manifest_of


def lineage_of_run(recipe: Recipe, command: str) -> Lineage:
    """What a recipe's run has left in the store; raises RecipeError with `command` where it has not run."""
    missing = [planned.step for planned in plan(recipe).planned if planned.artifact is None]
    if missing:
        problem = f"has not been run: the store lacks {', '.join(dict.fromkeys(missing))}"
        raise RecipeError("recipe", recipe.name, problem, f"Run it first: {command}")
    data = steps.prepare(recipe)  # all of these are reused, verified, and fetched where the store is far away
    start, base = steps.initialise(recipe, data), steps.fetch(recipe)
    model = steps.finetune(recipe, data, start)
    scores = steps.evaluate(recipe, data, steps.checks(recipe, data, start), model)
    named = {"name": recipe.name, "base_name": recipe.model.base, "revision": recipe.model.revision or ""}
    return Lineage(
        model.folder / "model", base.folder, data.folder, scores.folder, manifest=manifest_of(model.folder), **named
    )
