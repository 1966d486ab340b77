"""Publish the results of a run to MLflow, each exactly once."""

import json
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from mlflow.entities import Metric, Run

from pipeline_lib.models.building import TRAINED
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.artifacts import Artifact
from pipeline_lib.store.lineage import input_manifests
from pipeline_lib.tracking.errors import delivery_errors
from pipeline_lib.tracking.experiment import TRAINED_PARAMETERS, run_page
from pipeline_lib.tracking.pyfunc import NamedModel, log_model
from pipeline_lib.tracking.run_metadata import MANIFESTS, complete_metadata, log_metadata
from pipeline_lib.tracking.runs import MODEL, PARENT, TRAINING, Tracker, creation_time
from pipeline_lib.tracking.scores import log_scores
from pipeline_lib.tracking.summary import complete_summary, main_parameters
from pipeline_lib.tracking.throughput import generation_figures
from pipeline_lib.util.redaction import redact

OUT_OF_MEMORY = "tunesmith.out_of_memory"
"""Tag of a training for which the recipe's tokens per pass did not fit into memory."""


def publish_run(
    recipe: Recipe, prepared: Artifact, model: Artifact, scores: Artifact, base: Path, made_by: str
) -> dict[str, str]:
    """Log the training run, the evaluation run and the model unless MLflow has them; return their addresses.

    Raises:
        RecipeError: MLflow does not answer or rejects them.
    """
    with delivery_errors(recipe.execution, model.fingerprint):
        return _deliver(Tracker(recipe, made_by), prepared, model, scores, base)


def _deliver(tracker: Tracker, prepared: Artifact, model: Artifact, scores: Artifact, base: Path) -> dict[str, str]:
    training = publish_training(tracker, prepared, model, base, scores)
    parent = training.data.tags[PARENT]
    settled = tracker.client.get_run(parent).info.status == "FINISHED"
    evaluation = tracker.find_or_start_run("evaluation", scores.fingerprint, None if settled else parent)
    if evaluation.info.status != "FINISHED":
        tracker.reopen(evaluation)
        _log_evaluation(tracker, evaluation, training, prepared, scores)
    around = tracker.client.get_run(evaluation.data.tags[PARENT])
    if around.info.status != "FINISHED":
        complete_summary(tracker, training, evaluation, prepared, model, scores)
    tracker.finish(around.info.run_id)
    tracker.finish(parent)
    shown = {"run": around, "training": training, "evaluation": evaluation}
    return {name: run_page(tracker.recipe, run) for name, run in shown.items()} | {"model": training.data.tags[MODEL]}


def publish_training(
    tracker: Tracker, prepared: Artifact, model: Artifact, base: Path, scores: Artifact | None = None
) -> Run:
    """Return the finished training run of a model, logging it if necessary; a scored row is its input example."""
    training = tracker.find_or_start_run("training", model.fingerprint)
    if training.info.status != "FINISHED":
        tracker.reopen(training)
        _log_training(tracker, training, prepared, model, base, scores)
    return tracker.client.get_run(training.info.run_id)


def _log_training(
    tracker: Tracker, run: Run, prepared: Artifact, model: Artifact, base: Path, scores: Artifact | None
) -> None:
    client, run_id, recipe = tracker.client, run.info.run_id, tracker.recipe
    log_metadata(tracker, run, model.made)
    tracker.add_history(run, pq.read_table(model.folder / "history.parquet").to_pylist())
    complete_metadata(tracker, run, model)
    for path in (
        model.folder / "parameters.parquet",
        prepared.folder / "report.json",
        prepared.folder / "unusable.parquet",
    ):
        client.log_artifact(run_id, str(path), "data" if path.parent == prepared.folder else None)
    whole = not (model.folder / "model" / TRAINED).exists()
    example = _example(recipe, scores) if scores else {}
    summary = json.loads((model.folder / "summary.json").read_text(encoding="utf-8"))
    parameters = main_parameters(recipe) | {TRAINED_PARAMETERS: summary["trained_parameters"]}
    named = NamedModel(recipe.name, recipe.objective, parameters)
    uri = log_model(client, run, named, model.folder / "model", None if whole else base, example)
    client.set_tag(run_id, MODEL, uri)
    if (used := summary["batch_tokens"]) < (requested := recipe.training.batch_tokens):
        client.set_tag(run_id, OUT_OF_MEMORY, f"memory ran out with {requested:,} tokens per pass; {used:,} were used")
    tracker.finish(run_id)


def _log_evaluation(tracker: Tracker, run: Run, training: Run, prepared: Artifact, scores: Artifact) -> None:
    client, run_id = tracker.client, run.info.run_id
    document = json.loads((scores.folder / "metrics.json").read_text(encoding="utf-8"))
    client.set_tag(run_id, TRAINING, training.info.run_id)
    created = creation_time(scores)
    log_scores(tracker, run, training, prepared, document, created)
    if generation := scores.made.get("generation"):
        figures = generation_figures(generation).items()
        client.log_batch(run_id, [Metric(f"total/{name}", value, created, 0) for name, value in figures])
    _tag_findings(tracker, training, document["checks"])
    client.log_dict(run_id, input_manifests(scores.folder, "checks", "columns"), MANIFESTS)
    client.log_artifacts(run_id, str(scores.folder))
    tracker.finish(run_id)


def _tag_findings(tracker: Tracker, training: Run, findings: list[dict[str, Any]]) -> None:
    """Tag the training run with the findings of the checks."""
    tag, run_id = tracker.client.set_tag, training.info.run_id
    tag(run_id, "tunesmith.checks", f"{len(findings)} findings")
    for name, group in groupby(sorted(findings, key=itemgetter("name")), itemgetter("name")):
        problems = "; ".join(f"{finding['level']}: {finding['problem']}" for finding in group)
        tag(run_id, f"tunesmith.checks.{name}", redact(problems)[:5000])


def _example(recipe: Recipe, scores: Artifact) -> dict[str, Any]:
    """Return the inputs of the first scored row; empty if the predictions lack a required input."""
    roles = recipe.objective.input_roles
    rows = pq.read_table(scores.folder / "predictions.parquet").slice(0, 1).to_pylist()
    example = {name: row[name] for row in rows for name in roles if row.get(name) is not None}
    complete = all(name in example for name, required in roles.items() if required)
    return example if complete else {}
