"""Bring what a run made to MLflow, each thing once."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelInput, Metric, Run
from mlflow.exceptions import MlflowException

from pipeline_lib.masking import masked
from pipeline_lib.models.build import TRAINED
from pipeline_lib.recipe import Recipe, tracking_uri
from pipeline_lib.schema import RecipeError
from pipeline_lib.store.store import Artifact
from pipeline_lib.tracking.data_files import CONTEXT
from pipeline_lib.tracking.describe import complete, describe
from pipeline_lib.tracking.runs import MODEL, PARENT, TRAINING, Tracker
from pipeline_lib.tracking.served_model import log_model


def deliver(
    recipe: Recipe, prepared: Artifact, model: Artifact, scores: Artifact, base: Path, by: str
) -> dict[str, str]:
    """Log the training run, the evaluation run and the model, as far as MLflow does not have them; their addresses.

    Raises RecipeError where MLflow does not take them.
    """
    try:
        return _deliver(Tracker(recipe, by), prepared, model, scores, base)
    except MlflowException as error:
        problem = f"MLflow does not take the run ({masked(str(error)).splitlines()[0][:200]})"
        mend = "Nothing is lost: run the same command again when it answers"
        raise RecipeError("execution.tracking_uri", tracking_uri(recipe.execution), problem, mend) from error


def _deliver(tracker: Tracker, prepared: Artifact, model: Artifact, scores: Artifact, base: Path) -> dict[str, str]:
    training = deliver_training(tracker, prepared, model, base, scores)
    parent = training.data.tags[PARENT]
    settled = tracker.client.get_run(parent).info.status == "FINISHED"
    evaluation = tracker.run("evaluation", scores.fingerprint, None if settled else parent)
    if evaluation.info.status != "FINISHED":
        tracker.reopen(evaluation)
        _log_evaluation(tracker, evaluation, training, prepared, scores)
    tracker.finish(evaluation.data.tags[PARENT])
    tracker.finish(parent)
    places = {name: _address(tracker.recipe, run) for name, run in (("training", training), ("evaluation", evaluation))}
    return places | {"model": training.data.tags[MODEL]}


def deliver_training(
    tracker: Tracker, prepared: Artifact, model: Artifact, base: Path, scores: Artifact | None = None
) -> Run:
    """The finished training run of a model; a scored row is its input example."""
    training = tracker.run("training", model.fingerprint)
    if training.info.status != "FINISHED":
        tracker.reopen(training)
        _log_training(tracker, training, prepared, model, base, scores)
    return tracker.client.get_run(training.info.run_id)


def _log_training(
    tracker: Tracker, run: Run, prepared: Artifact, model: Artifact, base: Path, scores: Artifact | None
) -> None:
    client, run_id, recipe = tracker.client, run.info.run_id, tracker.recipe
    describe(tracker, run, model.made)
    tracker.add_history(run, pq.read_table(model.folder / "history.parquet").to_pylist())
    complete(tracker, run, model)
    for path in (
        model.folder / "parameters.parquet",
        prepared.folder / "report.json",
        prepared.folder / "unusable.parquet",
    ):
        client.log_artifact(run_id, str(path), "data" if path.parent == prepared.folder else None)
    whole = not (model.folder / "model" / TRAINED).exists()
    example = _example(recipe, scores) if scores else {}
    uri = log_model(client, run, model.folder / "model", None if whole else base, recipe.objective, example)
    client.set_tag(run_id, MODEL, uri)
    tracker.finish(run_id)


def _log_evaluation(tracker: Tracker, run: Run, training: Run, prepared: Artifact, scores: Artifact) -> None:
    """Scores of the model are linked to it and to the rows; those of baselines to the rows alone."""
    client, run_id = tracker.client, run.info.run_id
    told = json.loads((scores.folder / "metrics.json").read_text(encoding="utf-8"))
    client.set_tag(run_id, TRAINING, training.info.run_id)
    made = int(datetime.fromisoformat(scores.made["at"]).timestamp() * 1000)
    model = training.data.tags[MODEL].removeprefix("models:/")
    rows = Dataset(f"{tracker.recipe.name} test rows", prepared.digest[:32], "tunesmith", _source(prepared))
    inputs = [DatasetInput(rows, [InputTag(CONTEXT, "test")])]
    client.log_inputs(run_id, inputs, [LoggedModelInput(model)])
    linked = {"dataset_name": rows.name, "dataset_digest": rows.digest}
    scored = [
        Metric(name, value, made, 0, model_id=model if name.startswith("test/") else None, run_id=run_id, **linked)
        for name, value in named_scores(told)
    ]
    client.log_batch(run_id, scored)
    client.log_artifacts(run_id, str(scores.folder))
    tracker.finish(run_id)


def _source(prepared: Artifact) -> str:
    """Where the rows are from, as MLflow keeps it."""
    return json.dumps({"uri": f"prepare {prepared.fingerprint}"})


def _example(recipe: Recipe, scores: Artifact) -> dict[str, Any]:
    """What the model is asked, of the first row that was scored; empty where predictions do not hold it."""
    asked = recipe.objective.asked
    rows = pq.read_table(scores.folder / "predictions.parquet").slice(0, 1).to_pylist()
    told = {name: row[name] for row in rows for name in asked if row.get(name) is not None}
    return told if all(name in told for name, required in asked.items() if required) else {}


def named_scores(told: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """test/accuracy, test/accuracy/low, test/accuracy/high, baseline/majority/accuracy ..."""
    for name, score in told["metrics"].items():
        yield from (
            (f"test/{name}{end}", score[part])
            for part, end in (("value", ""), ("low", "/low"), ("high", "/high"))
            if score[part] is not None
        )
    for baseline, metrics in told["baselines"].items():
        yield from (
            (f"baseline/{baseline}/{name}", score["value"])
            for name, score in metrics.items()
            if score["value"] is not None
        )


def _address(recipe: Recipe, run: Run) -> str:
    uri = masked(tracking_uri(recipe.execution))
    page = f"/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    return uri.rstrip("/") + page if uri.startswith("http") else f"{run.info.run_id} in {uri}"
