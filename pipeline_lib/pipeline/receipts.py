"""Receipts in the store for what was published to MLflow, so that a fully reused run does not contact MLflow."""

from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from pipeline_lib.recipe.execution import tracking_uri
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.artifacts import Artifact
from pipeline_lib.store.durable import write_durably
from pipeline_lib.store.sealed import seal, unseal
from pipeline_lib.store.store import Store
from pipeline_lib.tracking.database import database_file
from pipeline_lib.util.redaction import redact


def receipt(recipe: Recipe, store: Store, scores: Artifact) -> dict[str, str] | None:
    """Return the addresses of these scores in MLflow; None if they are not published, or MLflow has lost them.

    A damaged receipt counts as missing: MLflow is then queried, and the receipt is written again.
    """
    if _is_database_lost(recipe):
        return None
    with suppress(FileNotFoundError, ValueError):
        return unseal(_path(recipe, store, scores).read_bytes())
    return None


def write_receipt(recipe: Recipe, store: Store, scores: Artifact, addresses: dict[str, str]) -> None:
    """Record the addresses of published scores atomically."""
    path = _path(recipe, store, scores)
    path.parent.mkdir(exist_ok=True)
    write_durably(path, seal(addresses))


def forget_receipt(recipe: Recipe, store: Store, scores: Artifact) -> None:
    """Remove the receipt of scores that MLflow has lost, so that they are published again."""
    _path(recipe, store, scores).unlink(missing_ok=True)


def _path(recipe: Recipe, store: Store, scores: Artifact) -> Path:
    return store.root / "receipts" / f"{scores.fingerprint[:16]}-{_target_hash(recipe)}.json"


def _is_database_lost(recipe: Recipe) -> bool:
    """Return whether MLflow's SQLite file is gone, and with it everything that was published."""
    uri = tracking_uri(recipe.execution)
    file = database_file(uri)
    return uri.startswith("sqlite") and (file is None or not file.exists())


def _target_hash(recipe: Recipe) -> str:
    """Return a short hash of the MLflow server and experiment, as one store can publish to several."""
    target = f"{redact(tracking_uri(recipe.execution))} {recipe.execution.experiment}"
    return sha256(target.encode()).hexdigest()[:8]
