"""Log a training's metadata to MLflow, so that it can be audited and reproduced."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Run, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE

from pipeline_lib.recipe.execution import Execution
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.artifacts import Artifact
from pipeline_lib.store.differences import flatten
from pipeline_lib.store.lineage import manifests
from pipeline_lib.store.remote import absolute_address
from pipeline_lib.tracking.data_files import CONTEXT, DataFile, data_files
from pipeline_lib.tracking.environment import flow_run
from pipeline_lib.tracking.runs import Tracker, creation_time, log_params
from pipeline_lib.tracking.summary import begin_summary
from pipeline_lib.tracking.throughput import pace, records, training_seconds
from pipeline_lib.util.redaction import redact

RECIPE, CIRCUMSTANCES, MANIFESTS, GIVEN = "recipe.yaml", "circumstances.json", "manifests.json", "recipe as given"
STORE = "tunesmith.store"


def log_metadata(tracker: Tracker, run: Run, environment: Mapping[str, Any]) -> None:
    """Log the metadata known when a training starts: the recipe as given and as resolved, code, machine, software."""
    client, run_id, recipe = tracker.client, run.info.run_id, tracker.recipe
    document = redact(recipe.model_dump(mode="json"))
    log_params(tracker, run_id, dict(flatten({name: part for name, part in document.items() if name != "execution"})))
    inputs = client.get_run(run_id).inputs
    if not (inputs and inputs.dataset_inputs):  # those of its beginning: files may have changed since
        client.log_inputs(run_id, list(_data_inputs(recipe, environment)))
    client.log_text(run_id, yaml.safe_dump(document, sort_keys=False, allow_unicode=True), RECIPE)
    if given := environment.get("given"):
        client.log_text(run_id, given["text"], f"{GIVEN}/{Path(given['file']).name}")
        client.log_dict(run_id, {"file": given["file"], "overrides": given["overrides"]}, f"{GIVEN}/how.json")
    client.log_dict(run_id, {part: environment.get(part) for part in ("git", "machine", "software")}, CIRCUMSTANCES)
    tags = _tags(tracker, environment)
    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
    begin_summary(tracker, run, tags)


def complete_metadata(tracker: Tracker, run: Run, model: Artifact) -> None:
    """Log the metadata known when a model is complete: throughput, cost, and the manifests from the data to it."""
    summary = json.loads((model.folder / "summary.json").read_text(encoding="utf-8"))
    log_params(tracker, run.info.run_id, summary)
    tracker.client.log_dict(run.info.run_id, manifests(model.folder), MANIFESTS)
    if measured := model.made.get("measured"):
        tracker.add(run, records(measured["windows"]))
        created = creation_time(model)
        totals = {f"total/{name}": value for name, value in _totals(measured, tracker.recipe.execution).items()}
        metrics = [Metric(name, value, created, summary["steps"]) for name, value in totals.items()]
        tracker.client.log_batch(run.info.run_id, metrics)


def _totals(measured: Mapping[str, Any], execution: Execution) -> dict[str, float]:
    seconds = training_seconds(measured)
    hours = seconds / 3600
    rates = {"energy_kwh": execution.watts and execution.watts / 1000, "cost": execution.cost_per_hour}
    plain = {name: measured[name] for name in ("rows", "tokens", "peak_memory_megabytes")}
    return {"seconds": seconds} | plain | pace(measured) | {name: rate * hours for name, rate in rates.items() if rate}


def _tags(tracker: Tracker, environment: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags by which runs can be searched."""
    flow = flow_run(tracker.made_by)
    git, machine = environment.get("git") or {}, environment.get("machine") or {}
    checkout = git.get("recipe") or git.get("project") or {}
    source = "tunesmith"
    if given := environment.get("given"):
        source = given["file"]
    elif flow:
        source = f"flow run {flow.name}"
    tags = {
        MLFLOW_SOURCE_NAME: redact(source),
        MLFLOW_SOURCE_TYPE: "LOCAL",
        STORE: redact(absolute_address(tracker.recipe.execution.store)),
        MLFLOW_GIT_COMMIT: checkout.get("commit"),
        "tunesmith.dirty": str(checkout["dirty"]).lower() if checkout else None,
        "tunesmith.machine": machine and ", ".join([machine["cpu"], f"{machine['cores']} cores", *machine["gpus"]]),
        "tunesmith.flow_run": flow and flow.id,
        "tunesmith.flow_run_page": flow and flow.page,
    }
    return {name: value for name, value in tags.items() if value}


def _data_inputs(recipe: Recipe, environment: Mapping[str, Any]) -> Iterator[DatasetInput]:
    """Yield the source files, as recorded when the training began, with their split."""
    recorded = environment.get("data")
    for file in data_files(recipe) if recorded is None else [DataFile(**facts) for facts in recorded]:
        source, size = json.dumps({"uri": file.path}), json.dumps({"bytes": file.bytes})
        dataset = Dataset(Path(file.path).name, file.digest, recipe.data.source.kind, source, profile=size)
        yield DatasetInput(dataset, [InputTag(CONTEXT, file.split)])
