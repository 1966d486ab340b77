"""Log a sweep's comparison to MLflow, in the experiment of the compared runs."""

import json
from collections.abc import Sequence
from typing import Any

from mlflow.entities import Metric, Run, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE, MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE

from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.artifacts import Artifact
from pipeline_lib.sweep.links import TrialPlaces, run_id
from pipeline_lib.sweep.trials import Sweep
from pipeline_lib.tracking.errors import delivery_errors
from pipeline_lib.tracking.experiment import run_address
from pipeline_lib.tracking.runs import Tracker, creation_time, log_params
from pipeline_lib.tracking.summary import LONGEST_NOTE


def deliver_comparison(
    recipe: Recipe, name: str, settings: Sweep, comparison: Artifact, trials: Sequence[TrialPlaces], made_by: str
) -> None:
    """Log a comparison once, under the sweep's name; raises RecipeError where MLflow does not take it."""
    with delivery_errors(recipe.execution, comparison.fingerprint):
        tracker = Tracker(recipe, made_by)
        run = tracker.find_or_start_single_run("sweep", comparison.fingerprint, name)
        if run.info.status != "FINISHED":
            _log_comparison(tracker, run, settings, comparison, trials)
            tracker.finish(run.info.run_id)


def _log_comparison(
    tracker: Tracker, run: Run, settings: Sweep, comparison: Artifact, trials: Sequence[TrialPlaces]
) -> None:
    client, run_id_ = tracker.client, run.info.run_id
    document = json.loads((comparison.folder / "comparison.json").read_text(encoding="utf-8"))
    higher = tracker.recipe.objective.metrics()[document["metric"]].higher_is_better
    scored = [variant for variant in document["variants"] if variant["score"] is not None] or document["variants"]
    best = (max if higher else min)(scored, key=lambda variant: variant["score"] or 0.0)
    parameters = {"vary": "; ".join(settings.vary) or "recipes", "seeds": settings.seeds, "metric": document["metric"]}
    log_params(tracker, run_id_, parameters | {"best_variant": best["name"], "pruner": settings.pruner or "none"})
    created = creation_time(comparison)
    figures = _figures(document, best, len(trials))
    note = _note(tracker, comparison, trials)
    tags = {MLFLOW_RUN_NOTE: note[:LONGEST_NOTE], MLFLOW_SOURCE_NAME: "tunesmith sweep", MLFLOW_SOURCE_TYPE: "LOCAL"}
    client.log_batch(
        run_id_,
        [Metric(name, value, created, 0) for name, value in figures.items()],
        tags=[RunTag(name, value) for name, value in tags.items()],
    )
    columns = {name: [variant[name] for variant in document["variants"]] for name in best}
    client.log_dict(run_id_, {"columns": [*columns], "data": [*map(list, zip(*columns.values()))]}, "variants.json")
    client.log_artifacts(run_id_, str(comparison.folder))


def _figures(document: dict[str, Any], best: dict[str, Any], trials: int) -> dict[str, float]:
    score = f"test/{document['metric']}"
    figures = {
        score: best["score"],
        f"{score}/low": best["low"],
        f"{score}/high": best["high"],
        "variants": len(document["variants"]),
        "trials": trials,
        "trials_stopped_early": len(document["stopped"]),
    }
    return {name: value for name, value in figures.items() if value is not None}


def _note(tracker: Tracker, comparison: Artifact, trials: Sequence[TrialPlaces]) -> str:
    """Return the comparison as Markdown, with links to the compared runs."""
    page = (comparison.folder / "comparison.md").read_text(encoding="utf-8").removeprefix("# ")
    return f"{page}\n{chr(10).join(_line(tracker.experiment, trial) for trial in trials)}"


def _line(experiment: str, trial: TrialPlaces) -> str:
    run = run_address(experiment, run_id(trial.run))
    report = run_address(experiment, run_id(trial.evaluation), "/artifacts/report.html")
    return f"- [{trial.name}]({run}), [report]({report})"
