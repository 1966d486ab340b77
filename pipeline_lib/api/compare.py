"""Comparisons of runs from Python."""

from pathlib import Path

from pipeline_lib.api.recipes import RecipeLike, load_recipe
from pipeline_lib.comparison.comparison import Comparison, comparison
from pipeline_lib.comparison.runs import Evaluated, evaluation_in, evaluation_of
from pipeline_lib.errors import RecipeError
from pipeline_lib.pipeline.run import RunOutcome

Side = RunOutcome | RecipeLike
"""What `run` returned, a recipe that was run, or the folder of an evaluation."""


def compare(a: Side, b: Side, *, level: float = 0.95) -> Comparison:
    """Compare two runs on the same test rows, metric by metric, by a paired bootstrap.

    Args:
        a: What `run` returned, a recipe that was run (or what `load_recipe` takes), or the folder of an evaluation.
        b: The other one.
        level: Confidence level of the intervals.

    Returns:
        The comparison; printed, a table and a sentence that says which differences are beyond chance.

    Raises:
        RecipeError: A recipe has not been run, or the two were not evaluated on the same rows.
    """
    if not 0.5 <= level < 1:
        raise RecipeError("level", level, "must be at least 0.5 and less than 1", "Write level=0.95, for example")
    return comparison(_find_evaluation("A", a), _find_evaluation("B", b), level)


def _find_evaluation(name: str, side: Side) -> Evaluated:
    if isinstance(side, RunOutcome):
        return evaluation_in(name, side.scores.folder)
    if isinstance(side, str | Path) and Path(side).is_dir():
        return evaluation_in(str(side), Path(side))
    return evaluation_of(load_recipe(side), "run(recipe)")
