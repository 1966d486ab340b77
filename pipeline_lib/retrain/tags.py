"""What a version's tags tell of the retraining that it came from."""

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
"""Characters of a tag that MLflow keeps."""


def challenge(fingerprints: Sequence[str | None]) -> str:
    """The digest of what was trained: the same seeds on the same data by the same code."""
    return digest(list(fingerprints))


def digest(value: object) -> str:
    """Sixteen digits for a plain value."""
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def registry_of(recipe: Recipe, gate: Gate) -> "Registry":
    """The registered model that a gate guards."""
    from pipeline_lib.tracking.registry import Registry  # importing MLflow takes seconds

    return Registry(recipe.execution, gate.name(recipe))
