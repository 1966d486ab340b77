"""The steps of a run: what each reads of the recipe and of other steps, and what it writes.

Steps hand each other references to artifacts. Heavy libraries are imported by what a step calls, and only when it
has to be made: a step that is reused waits for none of them.
"""

import json
import logging
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipeline_lib import identity
from pipeline_lib.checks.findings import heed, read_findings
from pipeline_lib.confine import refuse_outside
from pipeline_lib.data.encode import Encoded, Encoding, Spread, encode_files, fetch, here, shard
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
    files = {split: recipe.data.source.files(split) for split in SPLITS}
    refuse_outside(recipe, [file for split in SPLITS for file in files[split]])
    held_in = "test" if files["test"] else "train"
    for split in SPLITS:
        for file in files[split]:
            sliced = recipe.evaluation.columns if split == held_in else {}
            refuse_missing_columns(recipe.data, recipe.objective, sliced, file, split)


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
def checks(recipe: Recipe, prepared: Artifact, initial: Artifact, by: str = "a plain call") -> Artifact:
    """What is found in rows, labels and model; raises RecipeError for what the recipe calls an error."""
    store, base = open_store(recipe.execution.store), fetch(recipe, by)
    inputs = {"prepare": prepared.digest, "initialise": initial.digest, "base": base.digest}

    def make(folder: Path) -> None:
        from pipeline_lib.checks.checks import write_checks

        write_checks(recipe, prepared.folder, _shards(store), base.folder, initial.folder, folder)

    found = _told(store.ensure(identity.checks_step(recipe, inputs), make, by))
    heed(found.folder)
    return found


@in_errors()
def finetune(recipe: Recipe, prepared: Artifact, initial: Artifact, by: str = "a plain call") -> Artifact:
    """The trained model; its curves can be watched in MLflow while it trains."""
    store, base = open_store(recipe.execution.store), fetch(recipe, by)
    inputs = {"prepare": prepared.digest, "initialise": initial.digest, "base": base.digest}
    step = identity.finetune_step(recipe, inputs)

    def make(folder: Path) -> dict[str, Any]:
        from pipeline_lib.tracking.live import LiveRun
        from pipeline_lib.training.finetune import write_finetuned
        from pipeline_lib.training.launch import launch_finetuned

        given, work = (prepared.folder, _shards(store), base.folder, initial.folder), store.work(step)
        train = write_finetuned if recipe.execution.processes == 1 else launch_finetuned
        with ending_in_order():
            kept = _kept_trunk(recipe, prepared, initial, base, by)
            with LiveRun(recipe, step.fingerprint, by, work) as watch:
                train(recipe, *given, work, watch, folder, kept)
        return watch.facts()

    return _told(store.ensure(step, make, by))


@in_errors()
def evaluate(
    recipe: Recipe, prepared: Artifact, found: Artifact, model: Artifact, by: str = "a plain call"
) -> Artifact:
    """Predictions, scores with intervals, figures and the report."""
    store, base = open_store(recipe.execution.store), fetch(recipe, by)
    columns = _columns(recipe, prepared, base, by) if recipe.evaluation.columns else None
    inputs = {"prepare": prepared.digest, "checks": found.digest, "finetune": model.digest}
    inputs |= {"columns": columns.digest} if columns else {}
    step = identity.evaluate_step(recipe, inputs)

    def make(folder: Path) -> None:
        from pipeline_lib.data.columns import read_columns
        from pipeline_lib.evaluation.evaluate import write_evaluation

        values = read_columns(columns.folder) if columns else {}
        findings = read_findings(found.folder)
        write_evaluation(recipe, prepared.folder, _shards(store), base.folder, model.folder, values, findings, folder)

    return _told(store.ensure(step, make, by))


def _columns(recipe: Recipe, prepared: Artifact, base: Artifact, by: str) -> Artifact:
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
        write_columns(source, step.recipe["columns"], prepared.folder, _shards(store), of_shard, folder)

    return store.ensure(step, make, by)


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
