"""Tags of a registered version that describe the retraining it came from."""

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.retrain.gate import Gate

if TYPE_CHECKING:
    from pipeline_lib.tracking.registry import Registry

CHALLENGE, AGAINST, GATE = "tunesmith.challenge", "tunesmith.against", "tunesmith.gate"
OBJECTIVE, VERDICT, REASON = "tunesmith.objective", "tunesmith.verdict", "tunesmith.reason"
DIGEST = "tunesmith.digest"
"""The content digest of the trained model."""
LONGEST = 5000
"""Maximal length of a tag in MLflow, in characters."""


def challenge(fingerprints: Sequence[str | None]) -> str:
    """The digest of a set of trainings, which is the same for the same seeds, data and code."""
    return json_digest(list(fingerprints))


def json_digest(value: object) -> str:
    """A digest of sixteen hexadecimal digits for a JSON value."""
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def registry_of(recipe: Recipe, gate: Gate) -> "Registry":
    """The registered model that the gate controls."""
    from pipeline_lib.tracking.registry import Registry  # importing MLflow takes seconds

    return Registry(recipe.execution, gate.name(recipe))
