"""What is compared: a recipe's run or an evaluation's folder, and the answers that it left."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from pipeline_lib.errors import RecipeError
from pipeline_lib.evaluation.compare import Difference, compare
from pipeline_lib.evaluation.outcome import Metric
from pipeline_lib.evaluation.outcome_file import OUTCOME, Scored, read_outcome
from pipeline_lib.finished_run import lineage_of_run
from pipeline_lib.objectives import Objective
from pipeline_lib.recipe import Recipe
from pipeline_lib.recipe_file import load
from pipeline_lib.store.manifest import read_manifest


@dataclass(frozen=True)
class Evaluated:
    """One side of a comparison."""

    name: str
    scored: Scored
    metrics: Mapping[str, Metric]


def evaluated(source: Path) -> Evaluated:
    """The evaluation of a recipe that was run, or in a folder; raises RecipeError where there is none."""
    if source.is_dir():
        return evaluation_in(str(source), source)
    return evaluation_of(load(source), shlex.join(["tunesmith", "run", str(source)]))


def evaluation_of(recipe: Recipe, command: str) -> Evaluated:
    """The evaluation of a recipe; raises RecipeError with the command that runs it where it has not been run."""
    found = lineage_of_run(recipe, command)
    assert found.scores is not None  # lineage_of_run has them all or raises
    return evaluation_in(recipe.name, found.scores)


def evaluation_in(name: str, folder: Path) -> Evaluated:
    """The evaluation in an artifact's folder, by this name."""
    if not (folder / OUTCOME).is_file():
        mend = "Give a recipe that was run, or an artifact of the step evaluate"
        raise RecipeError("RECIPE_OR_FOLDER", str(folder), f"holds no {OUTCOME}", mend)
    kind = read_manifest(folder)["identity"]["recipe"]["objective"]
    return Evaluated(name, read_outcome(folder), TypeAdapter(Objective).validate_python(kind).metrics())


def differences(one: Evaluated, other: Evaluated, level: float) -> dict[str, Difference]:
    """By metric that both know; raises RecipeError where they did not answer the same rows."""
    a, b = one.scored.ordered, other.scored.ordered
    if len(a.rows) != len(b.rows) or (a.rows != b.rows).any():
        shared = len(set(a.rows.tolist()) & set(b.rows.tolist()))
        problem = f"answers {len(b.rows)} test rows of which {shared} are among the {len(a.rows)} of {one.name}"
        raise RecipeError("B", other.name, problem, "Evaluate both on the same test data: data.source.test")
    metrics = {name: metric for name, metric in one.metrics.items() if name in other.metrics}
    return compare([a.outcome], [b.outcome], metrics, level)
