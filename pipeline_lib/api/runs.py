"""Plans and runs from Python, with progress on a terminal and in a notebook."""

from pipeline_lib.api.progress import show_progress
from pipeline_lib.api.recipes import RecipeLike, load_recipe
from pipeline_lib.pipeline.plan import Plan
from pipeline_lib.pipeline.plan import plan as plan_steps
from pipeline_lib.pipeline.run import RunOutcome
from pipeline_lib.pipeline.run import run as run_steps


def plan(recipe: RecipeLike) -> Plan:
    """Determine which steps a run would reuse and which it would compute, and why; computes nothing.

    Args:
        recipe: A recipe, or what `load_recipe` takes.

    Returns:
        The plan; printed, it has one line for each step.

    Raises:
        RecipeError: The recipe is wrong, or a file, a column or the base model is missing.
    """
    return plan_steps(load_recipe(recipe))


def run(recipe: RecipeLike, *, progress: bool = True) -> RunOutcome:
    """Fine-tune and evaluate one model, and log it to MLflow; steps in the store are reused.

    Args:
        recipe: A recipe, or what `load_recipe` takes.
        progress: Whether to show progress: a live display in a notebook, log lines and a bar on a terminal. Lines that
            your own logging configuration shows already (logger `tunesmith`, level INFO) are not shown twice.

    Returns:
        References to all artifacts; printed, the metrics and where model, report and MLflow run are.

    Raises:
        RecipeError: The recipe is wrong, the data cannot be used, or a check that is set to `error` found something.
    """
    loaded = load_recipe(recipe)
    if not progress:
        return run_steps(loaded)
    with show_progress() as show:
        return run_steps(loaded, show=show)
