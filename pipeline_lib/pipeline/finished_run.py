"""Find the artifacts of a finished run by its recipe."""

from pipeline_lib.errors import RecipeError
from pipeline_lib.pipeline import steps
from pipeline_lib.pipeline.plan import plan
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.lineage import Lineage, manifest_of


def lineage_of_run(recipe: Recipe, command: str) -> Lineage:
    """Return the artifacts of a recipe's run; raises RecipeError that suggests `command` if it has not been run."""
    missing = [planned.step for planned in plan(recipe).planned if planned.artifact is None]
    if missing:
        problem = f"has not been run: the store lacks {', '.join(dict.fromkeys(missing))}"
        raise RecipeError("recipe", recipe.name, problem, f"Run it first: {command}")
    # every step is reused: it is verified and, from a remote store, downloaded
    data = steps.prepare(recipe)
    start, base = steps.initialise(recipe, data), steps.fetch_base(recipe)
    model = steps.finetune(recipe, data, start)
    scores = steps.evaluate(recipe, data, steps.checks(recipe, data, start), model)
    named = {"name": recipe.name, "base_name": recipe.model.base, "revision": recipe.model.revision or ""}
    return Lineage(
        model.folder / "model", base.folder, data.folder, scores.folder, manifest=manifest_of(model.folder), **named
    )
