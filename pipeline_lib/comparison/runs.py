"""What is compared: a recipe's run or an evaluation's folder, and the answers that it left."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from pipeline_lib.errors import RecipeError
from pipeline_lib.evaluation.predictions import Metric
from pipeline_lib.evaluation.predictions_file import OUTCOME, KeyedPredictions, read_predictions
from pipeline_lib.evaluation.statistics.bootstrap import Difference, compare
from pipeline_lib.objectives import Objective
from pipeline_lib.pipeline.finished_run import lineage_of_run
from pipeline_lib.recipe.loading import load
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.manifests import read_manifest

RUN_ID = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True)
class Evaluated:
    """One side of a comparison."""

    name: str
    scored: KeyedPredictions
    metrics: Mapping[str, Metric]


def evaluated(source: str, uri: str) -> Evaluated:
    """Return the evaluation of a run or model in MLflow, in a folder, or of a recipe; raises RecipeError without one.

    Args:
        source: A run's id, a models:/ address, an evaluation's folder, or a recipe's file.
        uri: MLflow's address.
    """
    if source.startswith("models:/") or (RUN_ID.fullmatch(source) and not Path(source).exists()):
        return _of_run(source, uri)
    if Path(source).is_dir():
        return evaluation_in(source, Path(source))
    return evaluation_of(load(Path(source)), shlex.join(["tunesmith", "run", source]))


def evaluation_of(recipe: Recipe, command: str) -> Evaluated:
    """The evaluation of a recipe; raises RecipeError with the command that runs it where it has not been run."""
    found = lineage_of_run(recipe, command)
    assert found.scores is not None  # lineage_of_run has them all or raises
    return evaluation_in(recipe.name, found.scores)


def _of_run(target: str, uri: str) -> Evaluated:
    from pipeline_lib.audit.artifact_store import artifacts_of
    from pipeline_lib.tracking.errors import reading_errors
    from pipeline_lib.tracking.search import TrainingSearch

    with reading_errors(uri):
        held = TrainingSearch(uri).training(target)
        chosen = [run for run in held.evaluations if run.id == target] or held.evaluations[-1:]
        manifest = held.evaluated(chosen[0]).get("evaluate") if chosen else None
    if manifest is None:
        raise RecipeError("RUN", target, "has no finished evaluation in MLflow", "Run its recipe again")
    kept, reason = artifacts_of(held.training)
    if kept is None or not kept.folder(manifest).is_dir():
        problem = f"was evaluated in a store that cannot be read here ({reason or kept})"
        raise RecipeError("RUN", target, problem, "Compare where that store is, or run the recipe here")
    name = (held.recipe or {}).get("name", held.training.name)
    return evaluation_in(f"{name} {target.removeprefix('models:/')[:8]}", kept.folder(manifest))


def evaluation_in(name: str, folder: Path) -> Evaluated:
    """The evaluation in an artifact's folder, by this name."""
    if not (folder / OUTCOME).is_file():
        hint = "Give a recipe that was run, or an artifact of the step evaluate"
        raise RecipeError("RECIPE|FOLDER|RUN", str(folder), f"holds no {OUTCOME}", hint)
    kind = read_manifest(folder)["identity"]["recipe"]["objective"]
    return Evaluated(name, read_predictions(folder), TypeAdapter(Objective).validate_python(kind).metrics())


def differences(one: Evaluated, other: Evaluated, level: float) -> dict[str, Difference]:
    """By metric that both know; raises RecipeError where they did not answer the same rows."""
    a, b = one.scored.ordered, other.scored.ordered
    if len(a.rows) != len(b.rows) or (a.rows != b.rows).any():
        shared = len(set(a.rows.tolist()) & set(b.rows.tolist()))
        problem = f"answers {len(b.rows)} test rows of which {shared} are among the {len(a.rows)} of {one.name}"
        raise RecipeError("B", other.name, problem, "Evaluate both on the same test data: data.source.test")
    metrics = {name: metric for name, metric in one.metrics.items() if name in other.metrics}
    return compare([a.outcome], [b.outcome], metrics, level)
