"""Log the scores of an evaluation to MLflow, linked to the model and to the evaluated rows."""

import json
import re
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelInput, Metric, Run

from pipeline_lib.store.artifacts import Artifact
from pipeline_lib.tracking.data_files import CONTEXT
from pipeline_lib.tracking.runs import BATCH, MODEL, Tracker

UNNAMED = re.compile(r"[^\w -]")
"""Characters that MLflow does not allow in the name of a metric, and slash and dot, which have a special meaning."""
LONGEST = 140
"""Characters of a slice's name that a metric's name has room for."""


def log_scores(
    tracker: Tracker, run: Run, training: Run, prepared: Artifact, document: dict[str, Any], created: int
) -> None:
    """Log the scores in metrics.json (`document`) with the time `made`, in milliseconds.

    Scores of the model are linked to it and to the rows; those of baselines to the rows alone.
    """
    client, run_id = tracker.client, run.info.run_id
    model = training.data.tags[MODEL].removeprefix("models:/")
    source = json.dumps({"uri": f"prepare {prepared.fingerprint}"})
    rows = Dataset(f"{tracker.recipe.name} test rows", prepared.digest[:32], "tunesmith", source)
    inputs = [DatasetInput(rows, [InputTag(CONTEXT, "test")])]
    known = client.get_run(run_id).inputs  # of a process that was killed: MLflow refuses the same model a second time
    models = [] if known and known.model_inputs else [LoggedModelInput(model)]
    client.log_inputs(run_id, inputs, models)
    linked = {"dataset_name": rows.name, "dataset_digest": rows.digest, "run_id": run_id}
    scored = [
        Metric(name, value, created, 0, model_id=None if name.startswith("baseline/") else model, **linked)
        for name, value in scores_by_name(document)
    ]
    for begin in range(0, len(scored), BATCH):  # slices by a column may have many values
        client.log_batch(run_id, scored[begin : begin + BATCH])


def metric_part(name: str) -> str:
    """Return a slice's name as part of a metric's name.

    If characters are replaced, a digest of the whole name is appended, so that "<5" and ">5" remain different.
    """
    plain = UNNAMED.sub("_", name)[:LONGEST].strip()
    return plain if plain == name else f"{plain} {sha256(name.encode()).hexdigest()[:6]}"


def scores_by_name(document: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """test/accuracy, test/accuracy/low, test/accuracy/high, slice/NAME/accuracy ..., baseline/majority/accuracy ..."""
    parts = {"test": document["metrics"]} | {
        f"slice/{metric_part(slice_scores['name'])}": slice_scores["metrics"] for slice_scores in document["slices"]
    }
    for part, metrics in parts.items():
        yield from (
            (f"{part}/{name}{end}", score[what])
            for name, score in metrics.items()
            for what, end in (("value", ""), ("low", "/low"), ("high", "/high"))
            if score[what] is not None
        )
    for baseline, metrics in document["baselines"].items():
        yield from (
            (f"baseline/{baseline}/{name}", score["value"])
            for name, score in metrics.items()
            if score["value"] is not None
        )
