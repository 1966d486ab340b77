"""A sweep as plain calls: run all trials, then compare those that completed. The flow takes the same steps."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pipeline_lib.errors import RecipeError
from pipeline_lib.pipeline import fingerprints, input_checks
from pipeline_lib.pipeline.run import RunOutcome
from pipeline_lib.preflight import preflight
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.artifacts import Artifact
from pipeline_lib.store.remote import open_store
from pipeline_lib.sweep.links import trial_places
from pipeline_lib.sweep.pruning import check_pruner, open_study, run_trial
from pipeline_lib.sweep.trials import Sweep, Trial, metric_of, sweep_name, trials
from pipeline_lib.tracking.throughput import training_seconds
from pipeline_lib.util.process_pool import one_by_one
from pipeline_lib.util.redaction import redact_errors
from pipeline_lib.util.signals import Pruned

if TYPE_CHECKING:
    from pipeline_lib.evaluation.predictions_file import KeyedPredictions

Ended = Mapping[str, RunOutcome | BaseException]
"""The outcome or error of each run, by its recipe's name; Pruned is not a failure."""


def sweep(recipes: Sequence[Recipe], settings: Sweep, made_by: str = "a plain call") -> Artifact:
    """Run the trials one by one, and compare them."""
    planned = plan_trials(recipes, settings)
    with open_study(planned, settings) as study:
        outcomes = one_by_one(lambda trial: run_trial(trial, made_by, study), planned)
        ended = {trial.recipe.name: outcome for trial, outcome in outcomes}
    return compare_trials(planned, ended, settings, made_by)


@redact_errors()
def plan_trials(recipes: Sequence[Recipe], settings: Sweep) -> list[Trial]:
    """List all trials; raises RecipeError for problems that would stop one of them before its first step."""
    planned = trials(recipes, settings)
    for trial in planned:
        input_checks.check_inputs(trial.recipe)
    check_pruner(planned, settings)
    for recipe in {trial.recipe.execution: trial.recipe for trial in planned}.values():
        preflight.require(recipe, warn=False)
    return planned


@redact_errors()
def compare_trials(planned: Sequence[Trial], ended: Ended, settings: Sweep, made_by: str) -> Artifact:
    """Compare and publish the runs that completed, then raise the error of the first that failed.

    Raises:
        RecipeError: If all runs were stopped early.
    """
    from pipeline_lib.tracking.sweeps import deliver_comparison

    done = [(trial, outcome) for trial in planned if isinstance(outcome := ended[trial.recipe.name], RunOutcome)]
    pruned = {name: error for name, error in ended.items() if isinstance(error, Pruned)}
    errors = {name: error for name, error in ended.items() if isinstance(error, BaseException)}
    failed = {name: error for name, error in errors.items() if name not in pruned}
    if not done and failed:
        _raise_first(failed)
    if not done:
        name, reason = next(iter(pruned.items()))
        hint = "Remove the pruner: all runs continue from their checkpoints"
        raise RecipeError("sweep.pruner", settings.pruner, f"stopped every run early ({name}: {reason})", hint)
    artifact = _compare_trials(done, {name: str(error) for name, error in pruned.items()}, settings, made_by)
    deliver_comparison(
        done[0][0].recipe, sweep_name(planned, settings), settings, artifact, trial_places(ended), made_by
    )
    if failed:
        _raise_first(failed)
    return artifact


def _compare_trials(
    done: Sequence[tuple[Trial, RunOutcome]], pruned: Mapping[str, str], settings: Sweep, made_by: str
) -> Artifact:
    recipe = done[0][0].recipe
    name = metric_of(recipe, settings)
    inputs = {
        f"{trial.recipe.name} {part}": artifact.digest
        for trial, outcome in done
        for part, artifact in (("model", outcome.model), ("scores", outcome.scores))
    }
    costs = {trial.recipe.name: _cost(trial.recipe, outcome) for trial, outcome in done}
    parts = {"metric": name, "level": settings.level, "stopped": pruned, "costs": costs}
    step = fingerprints.sweep_step(recipe, parts, inputs)

    def make(folder: Path) -> None:
        from pipeline_lib.sweep.comparison import Run, write_comparison

        runs = [Run(trial.variant, *_facts(outcome), costs[trial.recipe.name]) for trial, outcome in done]
        write_comparison(runs, name, recipe.objective.metrics()[name], settings.level, folder, pruned)

    return open_store(recipe.execution.store).ensure(step, make, made_by)


def _cost(recipe: Recipe, outcome: RunOutcome) -> float | None:
    """The cost of the training, as logged to MLflow; None without a rate or a measured time."""
    rate, measured = recipe.execution.cost_per_hour, outcome.model.made.get("measured")
    return rate * training_seconds(measured) / 3600 if rate and measured else None


def _facts(outcome: RunOutcome) -> "tuple[KeyedPredictions, int, float]":
    """The predictions, the number of trained parameters and the seconds of a run."""
    from pipeline_lib.evaluation.predictions_file import read_predictions

    summary = json.loads((outcome.model.folder / "summary.json").read_text(encoding="utf-8"))
    seconds = training_seconds(outcome.model.made["measured"])
    return read_predictions(outcome.scores.folder), summary["trained_parameters"], seconds


def _raise_first(failed: Mapping[str, BaseException]) -> NoReturn:
    (name, first), *others = failed.items()
    first.add_note(f"in {name}; the other runs are stored, and the same command reruns only those that failed")
    for other, error in others[:5]:
        first.add_note(f"{other}: {error}")
    raise first
