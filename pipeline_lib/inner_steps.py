"""Steps that another step makes for itself: what slices' columns hold, what a model's trunk puts out, what the
reference model says of answers."""

import logging
from pathlib import Path

from pipeline_lib import identity
from pipeline_lib.data.encode import Encoding, refuse_changed, shard
from pipeline_lib.data.splits import SPLITS
from pipeline_lib.models.places import PLACES, read_places
from pipeline_lib.recipe import Recipe
from pipeline_lib.store.artifact import Artifact
from pipeline_lib.store.remote import open_store
from pipeline_lib.store.store import Store
from pipeline_lib.training.frozen import trunk_layers, why_not_kept

log = logging.getLogger("tunesmith")


def columns(recipe: Recipe, prepared: Artifact, base: Artifact, by: str) -> Artifact:
    """What the slices' columns hold in the test rows: read again, so that another column encodes and trains nothing."""
    store, source = open_store(recipe.execution.store), recipe.data.source
    step = identity.columns_step(recipe, prepared.digest)

    def make(folder: Path) -> None:
        from pipeline_lib.data.columns import write_columns

        tokenizer, split = identity.tokenizer_digests(base.folder), "test" if source.test else "train"
        files = [Encoding(split, file, identity.shard_step(recipe, tokenizer, file)) for file in source.files(split)]
        files.sort(key=lambda each: shard(recipe, store, base.folder, each, by).digest)  # as `prepare` has them
        before = sum(len(source.files(other)) for other in SPLITS[: SPLITS.index(split)])
        of_shard = {index: each.file for index, each in enumerate(files, before)}
        write_columns(source, step.recipe["columns"], prepared.folder, shards_of(store), of_shard, folder)
        for each in files:
            refuse_changed(recipe, each)

    return store.ensure(step, make, by)


def kept_trunk(recipe: Recipe, prepared: Artifact, initial: Artifact, base: Artifact, by: str) -> Path | None:
    """The folder of what the frozen layers below all trained ones put out, where there are any and that can be kept."""
    where, store = read_places(initial.folder / PLACES), open_store(recipe.execution.store)
    why, layers = why_not_kept(recipe, where), trunk_layers(recipe, where)
    if layers and not why:
        from pipeline_lib.training.begun import Begun
        from pipeline_lib.training.inputs import Inputs
        from pipeline_lib.training.trunk import NotKept

        inputs = {"prepare": prepared.digest, "base": base.digest}
        steps = {count: identity.trunk_step(recipe, inputs, count) for count in range(layers, 0, -1)}

        def make(folder: Path) -> None:
            lower = next(((count, held.folder) for count, step in steps.items() if (held := store.find(step))), None)
            begun = Begun.of(recipe, Inputs(prepared.folder, shards_of(store), base.folder, initial.folder))
            begun.write_trunk(layers, lower, folder)

        try:
            return told(store.ensure(steps[layers], make, by)).folder
        except NotKept as reason:
            why = str(reason)
    if why:
        log.info("%-11s not kept: %s", "trunk", why)
    return None


def reference(recipe: Recipe, prepared: Artifact, base: Artifact, by: str) -> Artifact | None:
    """The base's log-probabilities of the answers, where the objective compares with it."""
    if not recipe.objective.reference_splits:
        return None
    store = open_store(recipe.execution.store)
    step = identity.reference_step(recipe, {"prepare": prepared.digest, "base": base.digest})

    def make(folder: Path) -> None:
        from pipeline_lib.training.reference import write_reference

        write_reference(recipe, prepared.folder, shards_of(store), base.folder, folder)

    return told(store.ensure(step, make, by))


def digest_of(found: Artifact | None) -> dict[str, str]:
    """A reference as an input of the steps that read it."""
    return {"reference": found.digest} if found else {}


def told(artifact: Artifact) -> Artifact:
    """Say that a step was reused; the store says what it made."""
    if artifact.reused:
        log.info("%-11s %s", artifact.step, artifact.message)
    return artifact


def shards_of(store: Store) -> Path:
    """The folder of all shards."""
    return store.root / "steps" / "shard"
