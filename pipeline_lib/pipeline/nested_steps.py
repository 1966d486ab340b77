"""Steps that another step makes for itself: what slices' columns hold, what a model's trunk puts out, what the
reference model says of answers."""

import logging
from pathlib import Path

from pipeline_lib.data.encoding import FileToEncode, refuse_changed, shard
from pipeline_lib.data.splits import SPLITS
from pipeline_lib.models.parameter_depth import PLACES, read_parameter_infos
from pipeline_lib.pipeline import fingerprints
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.artifacts import Artifact
from pipeline_lib.store.remote import open_store
from pipeline_lib.store.store import Store
from pipeline_lib.training.frozen_backbone.layers import frozen_layers, why_not_cached

log = logging.getLogger("tunesmith")


def slice_columns(recipe: Recipe, prepared: Artifact, base: Artifact, made_by: str) -> Artifact:
    """What the slices' columns hold in the test rows: read again, so that another column encodes and trains nothing."""
    store, source = open_store(recipe.execution.store), recipe.data.source
    step = fingerprints.columns_step(recipe, prepared.digest)

    def make(folder: Path) -> None:
        from pipeline_lib.data.slice_columns import write_columns

        tokenizer, split = fingerprints.tokenizer_digests(base.folder), "test" if source.test else "train"
        files = [
            FileToEncode(split, file, fingerprints.shard_step(recipe, tokenizer, file)) for file in source.files(split)
        ]
        files.sort(key=lambda each: shard(recipe, store, base.folder, each, made_by).digest)  # as `prepare` has them
        before = sum(len(source.files(other)) for other in SPLITS[: SPLITS.index(split)])
        of_shard = {index: each.file for index, each in enumerate(files, before)}
        write_columns(source, step.recipe["columns"], prepared.folder, shards_of(store), of_shard, folder)
        for each in files:
            refuse_changed(recipe, each)

    return store.ensure(step, make, made_by)


def cached_features(recipe: Recipe, prepared: Artifact, initial: Artifact, base: Artifact, made_by: str) -> Path | None:
    """The folder of what the frozen layers below all trained ones put out, where there are any and that can be kept."""
    where, store = read_parameter_infos(initial.folder / PLACES), open_store(recipe.execution.store)
    why, layers = why_not_cached(recipe, where), frozen_layers(recipe, where)
    if layers and not why:
        from pipeline_lib.training.frozen_backbone.backbone import NotCached
        from pipeline_lib.training.inputs import Inputs
        from pipeline_lib.training.setup import TrainingSetup

        inputs = {"prepare": prepared.digest, "base": base.digest}
        steps = {count: fingerprints.features_step(recipe, inputs, count) for count in range(layers, 0, -1)}

        def make(folder: Path) -> None:
            lower = next(((count, held.folder) for count, step in steps.items() if (held := store.find(step))), None)
            begun = TrainingSetup.of(recipe, Inputs(prepared.folder, shards_of(store), base.folder, initial.folder))
            begun.write_trunk(layers, lower, folder)

        try:
            return log_message(store.ensure(steps[layers], make, made_by)).folder
        except NotCached as reason:
            why = str(reason)
    if why:
        log.info("%-11s not cached: %s", "features", why)
    return None


def reference(recipe: Recipe, prepared: Artifact, base: Artifact, made_by: str) -> Artifact | None:
    """The base's log-probabilities of the answers, where the objective compares with it."""
    if not recipe.objective.reference_splits:
        return None
    store = open_store(recipe.execution.store)
    step = fingerprints.reference_step(recipe, {"prepare": prepared.digest, "base": base.digest})

    def make(folder: Path) -> None:
        from pipeline_lib.training.reference import write_reference

        write_reference(recipe, prepared.folder, shards_of(store), base.folder, folder)

    return log_message(store.ensure(step, make, made_by))


def digest_of(found: Artifact | None) -> dict[str, str]:
    """A reference as an input of the steps that read it."""
    return {"reference": found.digest} if found else {}


def log_message(artifact: Artifact) -> Artifact:
    """Say that a step was reused; the store says what it made."""
    if artifact.reused:
        log.info("%-11s %s", artifact.step, artifact.message)
    return artifact


def shards_of(store: Store) -> Path:
    """The folder of all shards."""
    return store.root / "steps" / "shard"
