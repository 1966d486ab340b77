"""The job of a training on several machines: what the launcher tells the others, and what they get ready from it."""

import json
from typing import Any

from pipeline_lib.errors import RecipeError
from pipeline_lib.pipeline import fingerprints
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.artifacts import PublishedStep, Reference, Step
from pipeline_lib.store.differences import find_differences
from pipeline_lib.store.remote import RemoteStore, reference_to
from pipeline_lib.training.inputs import Inputs

SHARDS = "shards.json"
"""File of the prepared data with the fingerprints of its shards."""


def describe_inputs(inputs: Inputs) -> dict[str, Any]:
    """Return references to the artifacts that a training reads, by which other machines find them in the store."""
    fingerprints_of_shards = json.loads((inputs.prepared / SHARDS).read_text(encoding="utf-8"))
    shards = [inputs.shards / fingerprint[:16] for fingerprint in fingerprints_of_shards]
    artifacts = inputs._replace(shards=None)._asdict()  # type: ignore[arg-type]
    return {
        "artifacts": {name: reference_to(folder) for name, folder in artifacts.items() if folder},
        "shards": [reference_to(folder) for folder in shards],
    }


def fetch_inputs(store: RemoteStore, job: dict[str, Any]) -> Inputs:
    """Download the artifacts of a job that this machine does not have."""
    folders = {name: store.fetch(Reference(*reference)) for name, reference in job["artifacts"].items()}
    for reference in job["shards"]:
        store.fetch(Reference(*reference))
    return Inputs(**folders, shards=store.root / "steps" / "shard")


def refuse_other_code(recipe: Recipe, job: dict[str, Any]) -> Step:
    """Return the step that a job is part of; raises RecipeError if it would be another one on this machine.

    Then code, libraries or the default precision differ, and the machines would not compute the same.
    """
    theirs = PublishedStep.from_identity(job["step"])
    ours = fingerprints.finetune_step(recipe, theirs.inputs)
    if ours.fingerprint != theirs.fingerprint:
        found = next(map(str, find_differences(theirs.identity(), ours)), "another version")
        problem = f"cannot include this machine, which would train something else ({found})"
        hint = "Install the same versions on all machines, and name execution.precision if their devices differ"
        raise RecipeError("execution.machines", recipe.execution.machines, problem, hint)
    return ours
