"""Steps that run inside another step: columns for slices, outputs of frozen layers, reference log-probabilities."""

import logging
from pathlib import Path
from typing import Any

from pipeline_lib.data.encoding import ensure_shard, refuse_changed
from pipeline_lib.data.file_groups import find_groups
from pipeline_lib.data.splits import SPLITS
from pipeline_lib.models.parameter_depth import PLACES, read_parameter_infos
from pipeline_lib.pipeline import fingerprints
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.artifacts import Artifact
from pipeline_lib.store.remote import open_store
from pipeline_lib.store.store import Store
from pipeline_lib.training.frozen_backbone.layers import frozen_layers, why_not_cached

log = logging.getLogger("tunesmith")
LOWER_SECONDS = "lower_seconds"
"""Key in the manifest of cached features: the seconds that the features they were computed from took."""


def slice_columns(recipe: Recipe, prepared: Artifact, base: Artifact, made_by: str) -> Artifact:
    """Create or reuse the values of the slices' columns in the test rows.

    They are read from the source files, so that slicing by another column needs no encoding and no training.
    """
    store, source = open_store(recipe.execution.store), recipe.data.source
    step = fingerprints.columns_step(recipe, prepared.digest)

    def make(folder: Path) -> None:
        from pipeline_lib.data.slice_columns import write_columns

        tokenizer, split = fingerprints.tokenizer_digests(base.folder), "test" if source.test else "train"
        groups = find_groups(recipe, tokenizer, split)
        # `prepare` numbers the files by split and, within a split, by the digest of their shard
        groups.sort(key=lambda group: ensure_shard(recipe, store, base.folder, group, made_by).digest)
        first = sum(len(source.files(other)) for other in SPLITS[: SPLITS.index(split)])
        files = dict(enumerate((file for group in groups for file in group.files), first))
        write_columns(source, step.recipe["columns"], prepared.folder, shards_of(store), files, folder)
        for group in groups:
            refuse_changed(recipe, group)

    return store.ensure(step, make, made_by)


def cache_features(
    recipe: Recipe, prepared: Artifact, initial: Artifact, base: Artifact, made_by: str
) -> Artifact | None:
    """Create or reuse the cached outputs of the frozen layers below all trained ones; None if they are not cached."""
    parameters, store = read_parameter_infos(initial.folder / PLACES), open_store(recipe.execution.store)
    reason, layers = why_not_cached(recipe, parameters), frozen_layers(recipe, parameters)
    if layers and not reason:
        from pipeline_lib.training.frozen_backbone.backbone import NotCached
        from pipeline_lib.training.inputs import Inputs
        from pipeline_lib.training.setup import TrainingSetup

        inputs = {"prepare": prepared.digest, "base": base.digest}
        # with fewer layers too: their outputs, if stored, are where the computation can continue from
        steps = {count: fingerprints.features_step(recipe, inputs, count) for count in range(layers, 0, -1)}

        def make(folder: Path) -> dict[str, Any]:
            lower, seconds = None, 0.0
            for count, step in steps.items():
                if artifact := store.find(step):
                    lower, seconds = (count, artifact.folder), features_seconds(artifact)
                    break
            log.info("%-11s computing the outputs of %d frozen layers, once for all trainings", "features", layers)
            setup = TrainingSetup.load(recipe, Inputs(prepared.folder, shards_of(store), base.folder, initial.folder))
            setup.cache_features(layers, lower, folder)
            return {LOWER_SECONDS: seconds}

        try:
            return log_message(store.ensure(steps[layers], make, made_by))
        except NotCached as error:
            reason = str(error)
    if reason:
        log.info("%-11s not cached: %s", "features", reason)
    return None


def features_seconds(features: Artifact) -> float:
    """Return the seconds that cached features took, with those of the lower layers they were computed from."""
    seconds: float = features.made["seconds"] + features.made.get(LOWER_SECONDS, 0.0)
    return seconds


def reference(recipe: Recipe, prepared: Artifact, base: Artifact, made_by: str) -> Artifact | None:
    """Create or reuse the base's log-probabilities of the answers; None if the objective needs no reference."""
    if not recipe.objective.reference_splits:
        return None
    store = open_store(recipe.execution.store)
    step = fingerprints.reference_step(recipe, {"prepare": prepared.digest, "base": base.digest})

    def make(folder: Path) -> None:
        from pipeline_lib.training.reference import write_reference

        write_reference(recipe, prepared.folder, shards_of(store), base.folder, folder)

    return log_message(store.ensure(step, make, made_by))


def digest_of(artifact: Artifact | None) -> dict[str, str]:
    """Return the reference as an input of the steps that read it; empty if there is none."""
    return {"reference": artifact.digest} if artifact else {}


def log_message(artifact: Artifact) -> Artifact:
    """Log that a step was reused; the store itself logs what it creates."""
    if artifact.reused:
        log.info("%-11s %s", artifact.step, artifact.message)
    return artifact


def shards_of(store: Store) -> Path:
    """Return the folder of all shards."""
    return store.root / "steps" / "shard"
