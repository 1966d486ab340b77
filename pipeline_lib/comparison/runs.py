"""Find the evaluations to compare, by recipe, folder, run or model, and compare their predictions."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from pipeline_lib.errors import RecipeError
from pipeline_lib.evaluation.predictions import Metric
from pipeline_lib.evaluation.predictions_file import OUTCOME, KeyedPredictions, read_predictions
from pipeline_lib.evaluation.statistics.bootstrap import MetricDifference, compare_sides
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


def find_evaluation(source: str, uri: str) -> Evaluated:
    """Find an evaluation in MLflow, in a folder, or in the store for a recipe.

    Args:
        source: A run's ID, a models:/ URI, an evaluation's folder, or a recipe's file.
        uri: MLflow's tracking URI.

    Raises:
        RecipeError: If there is no such evaluation.
    """
    if source.startswith("models:/") or (RUN_ID.fullmatch(source) and not Path(source).exists()):
        return _evaluation_of_run(source, uri)
    if Path(source).is_dir():
        return evaluation_in(source, Path(source))
    return evaluation_of(load(Path(source)), shlex.join(["tunesmith", "run", source]))


def evaluation_of(recipe: Recipe, command: str) -> Evaluated:
    """The evaluation of a recipe; if it has not been run, raises RecipeError with the command that runs it."""
    lineage = lineage_of_run(recipe, command)
    assert lineage.scores is not None  # lineage_of_run raises if any artifact is missing
    return evaluation_in(recipe.name, lineage.scores)


def _evaluation_of_run(target: str, uri: str) -> Evaluated:
    """The evaluation of a run or model in MLflow, from the store that made it."""
    from pipeline_lib.audit.artifact_store import artifacts_of
    from pipeline_lib.tracking.errors import describe_read_errors
    from pipeline_lib.tracking.search import TrainingSearch

    with describe_read_errors(uri):
        records = TrainingSearch(uri).find_training(target)
        # the evaluation that was named, or the latest one of a training
        chosen = [run for run in records.evaluations if run.id == target] or records.evaluations[-1:]
        manifest = records.evaluation_manifests(chosen[0]).get("evaluate") if chosen else None
    if manifest is None:
        raise RecipeError("RUN", target, "has no finished evaluation in MLflow", "Run its recipe again")
    store, reason = artifacts_of(records.training)
    if store is None or not store.folder(manifest).is_dir():
        problem = f"was evaluated in a store that cannot be read here ({reason or store})"
        raise RecipeError("RUN", target, problem, "Compare on a machine with that store, or run the recipe here")
    name = (records.recipe or {}).get("name", records.training.name)
    return evaluation_in(f"{name} {target.removeprefix('models:/')[:8]}", store.folder(manifest))


def evaluation_in(name: str, folder: Path) -> Evaluated:
    """Read the evaluation in an artifact's folder, and give it this name."""
    if not (folder / OUTCOME).is_file():
        hint = "Give a recipe that was run, or the folder of an evaluate artifact"
        raise RecipeError("RECIPE|FOLDER|RUN", str(folder), f"contains no {OUTCOME}", hint)
    kind = read_manifest(folder)["identity"]["recipe"]["objective"]
    return Evaluated(name, read_predictions(folder), TypeAdapter(Objective).validate_python(kind).metrics())


def compare_metrics(one: Evaluated, other: Evaluated, level: float) -> dict[str, MetricDifference]:
    """Compare all metrics that both have; raises RecipeError if they were not evaluated on the same rows."""
    a, b = one.scored.sorted_by_hash, other.scored.sorted_by_hash
    if len(a.rows) != len(b.rows) or (a.rows != b.rows).any():
        shared = len(set(a.rows.tolist()) & set(b.rows.tolist()))
        problem = f"has {len(b.rows)} test rows, of which {shared} are among the {len(a.rows)} of {one.name}"
        raise RecipeError("B", other.name, problem, "Evaluate both on the same test data: data.source.test")
    metrics = {name: metric for name, metric in one.metrics.items() if name in other.metrics}
    return compare_sides([a.outcome], [b.outcome], metrics, level)
