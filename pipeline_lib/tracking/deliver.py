"""Bring what a run made to MLflow, each thing once."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run
from mlflow.exceptions import MlflowException

from pipeline_lib.data.splits import SPLITS
from pipeline_lib.masking import masked
from pipeline_lib.models.build import TRAINED
from pipeline_lib.plan.explain import flatten
from pipeline_lib.recipe import Recipe, tracking_uri
from pipeline_lib.schema import RecipeError, Unanswered
from pipeline_lib.store.store import Artifact, file_digest
from pipeline_lib.tracking.runs import Tracker
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
        kind = Unanswered if error.get_http_status_code() >= 500 else RecipeError
        raise kind("execution.tracking_uri", tracking_uri(recipe.execution), problem, mend) from error


def _deliver(tracker: Tracker, prepared: Artifact, model: Artifact, scores: Artifact, base: Path) -> dict[str, str]:
    training = tracker.run("training", model.fingerprint)
    parent = training.data.tags["mlflow.parentRunId"]
    if training.info.status != "FINISHED":
        _log_training(tracker, training, prepared, model, base)
    settled = tracker.client.get_run(parent).info.status == "FINISHED"
    evaluation = tracker.run("evaluation", scores.fingerprint, None if settled else parent)
    if evaluation.info.status != "FINISHED":
        _log_evaluation(tracker, evaluation, training, scores)
    tracker.finish(evaluation.data.tags["mlflow.parentRunId"])
    tracker.finish(parent)
    logged = tracker.client.get_run(training.info.run_id).data.tags["tunesmith.model"]
    places = {name: _address(tracker.recipe, run) for name, run in (("training", training), ("evaluation", evaluation))}
    return places | {"model": logged}


def _log_training(tracker: Tracker, run: Run, prepared: Artifact, model: Artifact, base: Path) -> None:
    client, run_id, recipe = tracker.client, run.info.run_id, tracker.recipe
    tracker.add_history(run, pq.read_table(model.folder / "history.parquet").to_pylist())
    summary = json.loads((model.folder / "summary.json").read_text(encoding="utf-8"))
    told = masked(recipe.model_dump(mode="json"))
    facts = {**dict(flatten({name: part for name, part in told.items() if name != "execution"})), **summary}
    known = run.data.params  # a delivery that broke off may have logged some, and MLflow lets none be logged anew
    params = [Param(name, str(value)[:6000]) for name, value in facts.items() if name not in known]
    for begin in range(0, len(params), 100):  # as many as MLflow takes in one call
        client.log_batch(run_id, params=params[begin : begin + 100])
    client.log_inputs(run_id, list(_data_inputs(recipe)))
    client.log_text(run_id, yaml.safe_dump(told, sort_keys=False, allow_unicode=True), "recipe.yaml")
    for path in (
        model.folder / "parameters.parquet",
        prepared.folder / "report.json",
        prepared.folder / "unusable.parquet",
    ):
        client.log_artifact(run_id, str(path), "data" if path.parent == prepared.folder else None)
    whole = not (model.folder / "model" / TRAINED).exists()
    uri = log_model(
        tracking_uri(recipe.execution), run_id, model.folder / "model", None if whole else base, recipe.objective
    )
    client.set_tag(run_id, "tunesmith.model", uri)
    tracker.finish(run_id)


def _log_evaluation(tracker: Tracker, run: Run, training: Run, scores: Artifact) -> None:
    client, run_id = tracker.client, run.info.run_id
    told = json.loads((scores.folder / "metrics.json").read_text(encoding="utf-8"))
    made = int(datetime.fromisoformat(scores.made["at"]).timestamp() * 1000)
    client.log_batch(run_id, [Metric(name, value, made, 0) for name, value in _named_scores(told)])
    client.set_tag(run_id, "tunesmith.training_run", training.info.run_id)
    client.log_artifacts(run_id, str(scores.folder))
    tracker.finish(run_id)


def _named_scores(told: dict[str, Any]) -> Iterator[tuple[str, float]]:
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


def _data_inputs(recipe: Recipe) -> Iterator[DatasetInput]:
    """The source's files as inputs, by the split that they were given for."""
    source = recipe.data.source
    for split in SPLITS:
        for file in source.files(split):
            digest = "".join(file_digest(part) for part in source.parts(file))[:32]
            where = json.dumps({"uri": masked(str(file))})
            yield DatasetInput(Dataset(file.name, digest, source.kind, where), [InputTag("mlflow.data.context", split)])


def _address(recipe: Recipe, run: Run) -> str:
    uri = masked(tracking_uri(recipe.execution))
    page = f"/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    return uri.rstrip("/") + page if uri.startswith("http") else f"{run.info.run_id} in {uri}"
