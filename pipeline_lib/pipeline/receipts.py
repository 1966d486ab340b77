"""What MLflow was told of already: a note in the store, so that a run whose steps are all reused does not even ask."""

from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from pipeline_lib.recipe.execution import tracking_uri
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.artifacts import Artifact
from pipeline_lib.store.durable import write_durably
from pipeline_lib.store.sealed import seal, unseal
from pipeline_lib.store.store import Store
from pipeline_lib.util.redaction import redact


def receipt(recipe: Recipe, store: Store, scores: Artifact) -> dict[str, str] | None:
    """The addresses that a delivery of these scores has left; None where there was none, or MLflow has lost it.

    A damaged receipt counts as none: MLflow is asked what it has, and the receipt is written again.
    """
    if _lost(recipe):
        return None
    with suppress(FileNotFoundError, ValueError):
        return unseal(_place(recipe, store, scores).read_bytes())
    return None


def write_receipt(recipe: Recipe, store: Store, scores: Artifact, told: dict[str, str]) -> None:
    """Note what was delivered, whole or not at all."""
    place = _place(recipe, store, scores)
    place.parent.mkdir(exist_ok=True)
    write_durably(place, seal(told))


def forget_receipt(recipe: Recipe, store: Store, scores: Artifact) -> None:
    """Remove a note whose MLflow has lost what it speaks of, so that it is delivered again."""
    _place(recipe, store, scores).unlink(missing_ok=True)


def _place(recipe: Recipe, store: Store, scores: Artifact) -> Path:
    return store.root / "receipts" / f"{scores.fingerprint[:16]}-{_where(recipe)}.json"


def _lost(recipe: Recipe) -> bool:
    """Whether MLflow's own SQLite file is gone, and with it what the receipt speaks of."""
    path = tracking_uri(recipe.execution).removeprefix("sqlite:///")
    return path != tracking_uri(recipe.execution) and not Path(path).exists()


def _where(recipe: Recipe) -> str:
    """Which MLflow the recipe means: one store can deliver to several."""
    where = f"{redact(tracking_uri(recipe.execution))} {recipe.execution.experiment}"
    return sha256(where.encode()).hexdigest()[:8]
