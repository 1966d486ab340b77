"""The additional steps of a retraining: `profile` and `rescore`."""

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.pipeline import fingerprints, steps
from pipeline_lib.pipeline.nested_steps import digest_of, reference, shards_of
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.retrain.embeddings import Embedder
from pipeline_lib.retrain.tags import DIGEST
from pipeline_lib.store.artifacts import Artifact
from pipeline_lib.store.remote import open_store
from pipeline_lib.util.redaction import redact_errors
from pipeline_lib.util.temporary import temporary_folder

if TYPE_CHECKING:
    from pipeline_lib.tracking.registry import Registry, Version


def embedder(recipe: Recipe, made_by: str) -> Embedder:
    """An embedder with the recipe's base, before any training."""
    base = steps.fetch_base(recipe, made_by)
    return Embedder(base.folder, base.digest, recipe.execution.device)


@redact_errors()
def profile(recipe: Recipe, prepared: Artifact, made_by: str) -> Artifact:
    """Make the profile of the prepared data."""
    store, base = open_store(recipe.execution.store), embedder(recipe, made_by)

    def make(folder: Path) -> None:
        from pipeline_lib.retrain.profile import write_profile

        write_profile(recipe.objective, prepared.folder, shards_of(store), base, folder)

    step = fingerprints.profile_step(recipe, {"prepare": prepared.digest, "base": base.digest})
    return store.ensure(step, make, made_by)


@redact_errors()
def rescore(recipe: Recipe, prepared: Artifact, registry: "Registry", champion: "Version", made_by: str) -> Artifact:
    """Predict the current test rows with the champion, fetched as for serving."""
    store = open_store(recipe.execution.store)

    def make(folder: Path) -> None:
        from pipeline_lib.retrain.rescore import write_rescored

        with temporary_folder() as download:
            model, base = registry.fetch(champion, download)
            shards = shards_of(store)
            write_rescored(recipe, prepared.folder, shards, model, base, reference_folder, folder)

    # log-probabilities of the base, for objectives that need a reference model
    reference_artifact = reference(recipe, prepared, steps.fetch_base(recipe, made_by), made_by)
    reference_folder = reference_artifact.folder if reference_artifact else None
    inputs = {"prepare": prepared.digest, "champion": champion.tags[DIGEST], **digest_of(reference_artifact)}
    return store.ensure(fingerprints.rescore_step(recipe, inputs), make, made_by)
