"""The steps of a run: what each reads of the recipe and of other steps, and what it writes.

Steps hand each other references to artifacts. Heavy libraries are imported by what a step calls, and only when it
has to be made: a step that is reused waits for none of them.
"""

import json
import logging
import os
from hashlib import sha256
from pathlib import Path

from pipeline_lib import identity
from pipeline_lib.data.encode import Encoded, Spread, encode_files, fetch, here, shard
from pipeline_lib.data.shards import refuse_missing_columns
from pipeline_lib.data.splits import SPLITS, Shard, write_splits
from pipeline_lib.interrupts import ending_in_order
from pipeline_lib.masking import in_errors, masked
from pipeline_lib.models.base import locate
from pipeline_lib.models.build import write_initial
from pipeline_lib.models.places import PLACES, read_places
from pipeline_lib.recipe import Recipe, tracking_uri
from pipeline_lib.store.remote import open_store
from pipeline_lib.store.store import Artifact, Store
from pipeline_lib.training.frozen import trunk_layers, why_not_kept

log = logging.getLogger("tunesmith")


@in_errors()
def check(recipe: Recipe) -> None:
    """Raise RecipeError for a base model, a file or a column that is not there. Reads a row of each file, no model."""
    locate(recipe.model)
    execution = recipe.execution
    if execution.device == "cuda" or execution.precision == "fp16" or execution.processes > 1:
        from pipeline_lib.training.device import accelerator  # only these need torch to be asked

        accelerator(execution)
    for split in SPLITS:
        for file in recipe.data.source.files(split):
            refuse_missing_columns(recipe.data, recipe.objective, file, split)


@in_errors()
def encode(recipe: Recipe, by: str = "a plain call", spread: Spread = here) -> Encoded:
    """A shard for each source file, so that a new file is the only one encoded; `spread` decides who encodes them."""
    check(recipe)
    return encode_files(recipe, fetch(recipe, by), by, spread)


@in_errors()
def prepare(recipe: Recipe, encoded: Encoded | None = None, by: str = "a plain call") -> Artifact:
    """Rows of all splits, checked and shared out, over the shards of all files."""
    store, encoded = open_store(recipe.execution.store), encoded or encode(recipe, by)
    base = encoded.base.folder
    shards = [Shard(each.split, each.file.name, shard(recipe, store, base, each, by)) for each in encoded.files]
    shards.sort(key=lambda shard: (SPLITS.index(shard.split), shard.artifact.digest))  # a file's name decides nothing
    step = identity.prepare_step(recipe, [(shard.split, shard.artifact.digest) for shard in shards])
    return _told(store.ensure(step, lambda folder: write_splits(recipe, shards, folder), by))


@in_errors()
def initialise(recipe: Recipe, prepared: Artifact, by: str = "a plain call") -> Artifact:
    """The starting point: the base's config and tokenizer, the new head, the strategies' modules."""
    base = fetch(recipe, by)
    labels = json.loads((prepared.folder / "labels.json").read_text(encoding="utf-8"))
    step = identity.initialise_step(recipe, {"base": base.digest}, labels)

    def make(folder: Path) -> None:
        write_initial(recipe.objective, recipe.strategies, base.folder, labels, recipe.seed, folder)

    return _told(open_store(recipe.execution.store).ensure(step, make, by))


@in_errors()
def finetune(recipe: Recipe, prepared: Artifact, initial: Artifact, by: str = "a plain call") -> Artifact:
    """The trained model; its curves can be watched in MLflow while it trains."""
    store, base = open_store(recipe.execution.store), fetch(recipe, by)
    inputs = {"prepare": prepared.digest, "initialise": initial.digest, "base": base.digest}
    step = identity.finetune_step(recipe, inputs)

    def make(folder: Path) -> None:
        from pipeline_lib.tracking.live import LiveRun
        from pipeline_lib.training.finetune import write_finetuned
        from pipeline_lib.training.launch import launch_finetuned

        given = prepared.folder, _shards(store), base.folder, initial.folder
        train = write_finetuned if recipe.execution.processes == 1 else launch_finetuned
        with ending_in_order():
            kept = _kept_trunk(recipe, prepared, initial, base, by)
            with LiveRun(recipe, step.fingerprint, by) as watch:
                train(recipe, *given, store.work(step), watch, folder, kept)

    return _told(store.ensure(step, make, by))


@in_errors()
def evaluate(recipe: Recipe, prepared: Artifact, model: Artifact, by: str = "a plain call") -> Artifact:
    """Predictions, scores with intervals, figures and the report."""
    store, base = open_store(recipe.execution.store), fetch(recipe, by)
    step = identity.evaluate_step(recipe, {"prepare": prepared.digest, "finetune": model.digest})

    def make(folder: Path) -> None:
        from pipeline_lib.evaluation.evaluate import write_evaluation

        write_evaluation(recipe, prepared.folder, _shards(store), base.folder, model.folder, folder)

    return _told(store.ensure(step, make, by))


@in_errors()
def publish(
    recipe: Recipe, prepared: Artifact, model: Artifact, scores: Artifact, by: str = "a plain call"
) -> dict[str, str]:
    """Bring training, evaluation and model to MLflow, each once; their addresses by these names.

    What was delivered is noted in the store, so that a run whose steps are all reused does not even ask MLflow.
    """
    store, base = open_store(recipe.execution.store), fetch(recipe, by)
    receipt = store.root / "receipts" / f"{scores.fingerprint[:16]}-{_where(recipe)}.json"
    if receipt.exists() and not _lost(recipe):
        return json.loads(receipt.read_text(encoding="utf-8"))
    from pipeline_lib.tracking.deliver import deliver

    told = deliver(recipe, prepared, model, scores, base.folder, by)
    receipt.parent.mkdir(exist_ok=True)
    aside = receipt.with_suffix(f".{os.getpid()}")
    aside.write_text(json.dumps(told), encoding="utf-8")
    os.replace(aside, receipt)
    return told


def _kept_trunk(recipe: Recipe, prepared: Artifact, initial: Artifact, base: Artifact, by: str) -> Path | None:
    """The folder of what the frozen layers below all trained ones put out, where there are any and that can be kept."""
    where, store = read_places(initial.folder / PLACES), open_store(recipe.execution.store)
    why, layers = why_not_kept(recipe, where), trunk_layers(recipe, where)
    if layers and not why:
        from pipeline_lib.training.begun import Begun
        from pipeline_lib.training.trunk import NotKept

        inputs = {"prepare": prepared.digest, "base": base.digest}
        steps = {count: identity.trunk_step(recipe, inputs, count) for count in range(layers, 0, -1)}

        def make(folder: Path) -> None:
            lower = next(((count, held.folder) for count, step in steps.items() if (held := store.find(step))), None)
            begun = Begun.of(recipe, prepared.folder, _shards(store), base.folder, initial.folder)
            begun.write_trunk(layers, lower, folder)

        try:
            return _told(store.ensure(steps[layers], make, by)).folder
        except NotKept as reason:
            why = str(reason)
    if why:
        log.info("%-11s not kept: %s", "trunk", why)
    return None


def _told(artifact: Artifact) -> Artifact:
    """Say that a step was reused; the store says what it made."""
    if artifact.reused:
        log.info("%-11s %s", artifact.step, artifact.message)
    return artifact


def _lost(recipe: Recipe) -> bool:
    """Whether MLflow's own SQLite file is gone, and with it what the receipt speaks of."""
    path = tracking_uri(recipe.execution).removeprefix("sqlite:///")
    return path != tracking_uri(recipe.execution) and not Path(path).exists()


def _where(recipe: Recipe) -> str:
    """Which MLflow the recipe means: one store can deliver to several."""
    where = f"{masked(tracking_uri(recipe.execution))} {recipe.execution.experiment}"
    return sha256(where.encode()).hexdigest()[:8]


def _shards(store: Store) -> Path:
    return store.root / "steps" / "shard"
