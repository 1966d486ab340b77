"""The steps of a run: what each reads of the recipe and of other steps, and what it writes.

Steps hand each other references to artifacts. Heavy libraries are imported by what a step calls, and only when it
has to be created: a step that is reused waits for none of them.
"""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.checks.findings import heed, read_findings
from pipeline_lib.data.encoding import EncodedFiles, Spread, encode_files, fetch, here, shard
from pipeline_lib.data.splits import SPLITS, Shard, left_out, write_splits
from pipeline_lib.models.building import write_initial
from pipeline_lib.pipeline import fingerprints, input_checks
from pipeline_lib.pipeline.nested_steps import (
    cached_features,
    digest_of,
    log_message,
    reference,
    shards_of,
    slice_columns,
)
from pipeline_lib.pipeline.receipts import receipt, write_receipt
from pipeline_lib.preflight import preflight
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.artifacts import Artifact
from pipeline_lib.store.remote import open_store
from pipeline_lib.util.redaction import redact_errors
from pipeline_lib.util.signals import Judge, ending_in_order

if TYPE_CHECKING:
    from pipeline_lib.training.progress import Show

log = logging.getLogger("tunesmith")


@redact_errors()
def encode(recipe: Recipe, made_by: str = "a plain call", spread: Spread = here) -> EncodedFiles:
    """A shard for each source file, so that a new file is the only one encoded; `spread` decides who encodes them."""
    input_checks.check(recipe)
    preflight.require(recipe)
    return encode_files(recipe, fetch(recipe, made_by), made_by, spread)


@redact_errors()
def prepare(recipe: Recipe, encoded: EncodedFiles | None = None, made_by: str = "a plain call") -> Artifact:
    """Rows of all splits, checked and shared out, over the shards of all files."""
    store, encoded = open_store(recipe.execution.store), encoded or encode(recipe, made_by)
    base = encoded.base.folder
    shards = [Shard(each.split, each.file.name, shard(recipe, store, base, each, made_by)) for each in encoded.files]
    shards.sort(key=lambda shard: (SPLITS.index(shard.split), shard.artifact.digest))  # a file's name decides nothing
    step = fingerprints.prepare_step(recipe, [(shard.split, shard.artifact.digest) for shard in shards])
    prepared = log_message(store.ensure(step, lambda folder: write_splits(recipe, shards, folder), made_by))
    for sentence in left_out(prepared.folder):
        log.warning("%-11s %s", "prepare", sentence)
    return prepared


@redact_errors()
def initialise(recipe: Recipe, prepared: Artifact, made_by: str = "a plain call") -> Artifact:
    """The starting point: the base's config and tokenizer, the new head, the strategies' modules."""
    base = fetch(recipe, made_by)
    labels = json.loads((prepared.folder / "labels.json").read_text(encoding="utf-8"))
    step = fingerprints.initialise_step(recipe, {"base": base.digest}, labels)

    def make(folder: Path) -> None:
        write_initial(recipe.objective, recipe.strategies, base.folder, labels, recipe.seed, folder)

    return log_message(open_store(recipe.execution.store).ensure(step, make, made_by))


@redact_errors()
def checks(recipe: Recipe, prepared: Artifact, initial: Artifact, made_by: str = "a plain call") -> Artifact:
    """What is found in rows, labels and model; raises RecipeError for what the recipe calls an error."""
    store, base = open_store(recipe.execution.store), fetch(recipe, made_by)
    inputs = {"prepare": prepared.digest, "initialise": initial.digest, "base": base.digest}

    def make(folder: Path) -> None:
        from pipeline_lib.checks.checks import write_checks

        write_checks(recipe, prepared.folder, shards_of(store), base.folder, initial.folder, folder)

    found = log_message(store.ensure(fingerprints.checks_step(recipe, inputs), make, made_by))
    heed(found.folder)
    return found


@redact_errors()
def finetune(
    recipe: Recipe,
    prepared: Artifact,
    initial: Artifact,
    made_by: str = "a plain call",
    judge: Judge | None = None,
    show: "Show | None" = None,
) -> Artifact:
    """The trained model; its curves can be watched in MLflow while it trains.

    `show` is called every few seconds with how the training stands. Raises Pruned, with a checkpoint kept, where
    `judge` sees no hope.
    """
    store, base = open_store(recipe.execution.store), fetch(recipe, made_by)
    compared = reference(recipe, prepared, base, made_by)
    inputs = {"prepare": prepared.digest, "initialise": initial.digest, "base": base.digest, **digest_of(compared)}
    step = fingerprints.finetune_step(recipe, inputs)

    def make(folder: Path) -> dict[str, Any]:
        from pipeline_lib.tracking.live_run import LiveRun
        from pipeline_lib.training.distributed.launch import launch_finetuned
        from pipeline_lib.training.finetune import write_finetuned
        from pipeline_lib.training.inputs import Inputs
        from pipeline_lib.training.progress import TrainingProgress

        given, work = Inputs(prepared.folder, shards_of(store), base.folder, initial.folder), store.work(step)
        given = given._replace(reference=compared.folder if compared else None)
        train = write_finetuned if recipe.execution.processes == 1 else launch_finetuned
        with ending_in_order():
            kept = cached_features(recipe, prepared, initial, base, made_by)
            with (
                TrainingProgress(recipe, show) as progress,
                LiveRun(recipe, step.fingerprint, made_by, work, judge) as live,
            ):
                watch = progress.counting(live, lambda: live.page)
                train(recipe, given._replace(kept=kept), work, watch, folder)
        return live.facts()

    return log_message(store.ensure(step, make, made_by))


@redact_errors()
def evaluate(
    recipe: Recipe, prepared: Artifact, found: Artifact, model: Artifact, made_by: str = "a plain call"
) -> Artifact:
    """Predictions, scores with intervals, figures and the report."""
    store, base = open_store(recipe.execution.store), fetch(recipe, made_by)
    named = slice_columns(recipe, prepared, base, made_by) if recipe.evaluation.columns else None
    inputs = {"prepare": prepared.digest, "checks": found.digest, "finetune": model.digest}
    compared = reference(recipe, prepared, base, made_by)
    inputs |= {"columns": named.digest} if named else {}
    inputs |= digest_of(compared)
    step = fingerprints.evaluate_step(recipe, inputs)

    def make(folder: Path) -> None:
        from pipeline_lib.data.slice_columns import read_columns
        from pipeline_lib.evaluation.evaluate import write_evaluation
        from pipeline_lib.training.inputs import Inputs

        values = read_columns(named.folder) if named else {}
        findings = read_findings(found.folder)
        given = Inputs(prepared.folder, shards_of(store), base.folder, model.folder)
        given = given._replace(reference=compared.folder if compared else None)
        write_evaluation(recipe, given, values, findings, folder)

    return log_message(store.ensure(step, make, made_by))


@redact_errors()
def publish(
    recipe: Recipe, prepared: Artifact, model: Artifact, scores: Artifact, made_by: str = "a plain call"
) -> dict[str, str]:
    """Bring training, evaluation and model to MLflow, each once; their addresses by these names."""
    store, base = open_store(recipe.execution.store), fetch(recipe, made_by)
    if known := receipt(recipe, store, scores):
        return known
    from pipeline_lib.tracking.left_runs import settle_left_runs
    from pipeline_lib.tracking.publish import publish_run

    addresses = publish_run(recipe, prepared, model, scores, base.folder, made_by)
    write_receipt(recipe, store, scores, addresses)
    settle_left_runs(recipe)
    return addresses
