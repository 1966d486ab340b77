"""The steps of a run: what each reads from the recipe and from other steps, and what it writes.

Steps pass references to artifacts to each other. Heavy libraries are imported only when a step has to be created, so
that a reused step does not wait for them.
"""

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.checks.findings import read_findings, report_findings
from pipeline_lib.data.encoding import EncodedFiles, Spread, encode_files, ensure_shard, fetch_base, here
from pipeline_lib.data.prepared import read_labels
from pipeline_lib.data.shard_files import Shard, describe_left_out
from pipeline_lib.data.splits import SPLITS, write_splits
from pipeline_lib.models.building import write_initial
from pipeline_lib.pipeline import fingerprints, input_checks
from pipeline_lib.pipeline.nested_steps import (
    cache_features,
    digest_of,
    features_seconds,
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
from pipeline_lib.util.signals import StopCheck, exit_on_sigterm

if TYPE_CHECKING:
    from pipeline_lib.training.progress import Show

log = logging.getLogger("tunesmith")


@redact_errors()
def encode(recipe: Recipe, made_by: str = "a plain call", spread: Spread = here) -> EncodedFiles:
    """Encode the source files into shards, so that only new files have to be encoded; small ones share a shard.

    `spread` decides where the files are encoded: in this process, in several processes or on a cluster.
    """
    input_checks.check_inputs(recipe)
    preflight.require(recipe)
    return encode_files(recipe, fetch_base(recipe, made_by), made_by, spread)


@redact_errors()
def prepare(recipe: Recipe, encoded: EncodedFiles | None = None, made_by: str = "a plain call") -> Artifact:
    """Check the rows of all shards and divide them into splits."""
    store, encoded = open_store(recipe.execution.store), encoded or encode(recipe, made_by)
    base = encoded.base.folder
    shards = [
        Shard(group.split, group.names, group.digests, ensure_shard(recipe, store, base, group, made_by))
        for group in encoded.groups
    ]
    # by content, so that renaming a file changes nothing
    shards.sort(key=lambda shard: (SPLITS.index(shard.split), shard.artifact.digest))
    step = fingerprints.prepare_step(recipe, [(shard.split, shard.artifact.digest) for shard in shards])
    prepared = log_message(store.ensure(step, lambda folder: write_splits(recipe, shards, folder), made_by))
    for sentence in describe_left_out(prepared.folder):
        log.warning("%-11s %s", "prepare", sentence)
    return prepared


@redact_errors()
def initialise(recipe: Recipe, prepared: Artifact, made_by: str = "a plain call") -> Artifact:
    """Write the initial model: the base's config and tokenizer, the new head and the strategies' modules."""
    base = fetch_base(recipe, made_by)
    labels = read_labels(prepared.folder)
    step = fingerprints.initialise_step(recipe, {"base": base.digest}, labels)

    def make(folder: Path) -> None:
        of_recipe = (recipe.objective, recipe.strategies, base.folder, labels, recipe.seed)
        write_initial(*of_recipe, folder, recipe.model.dtype, recipe.model.quantization)

    return log_message(open_store(recipe.execution.store).ensure(step, make, made_by))


@redact_errors()
def checks(recipe: Recipe, prepared: Artifact, initial: Artifact, made_by: str = "a plain call") -> Artifact:
    """Check rows, labels and model; raises RecipeError for findings that the recipe treats as errors."""
    store, base = open_store(recipe.execution.store), fetch_base(recipe, made_by)
    inputs = {"prepare": prepared.digest, "initialise": initial.digest, "base": base.digest}

    def make(folder: Path) -> None:
        from pipeline_lib.checks.checks import write_checks

        write_checks(recipe, prepared.folder, shards_of(store), base.folder, initial.folder, folder)

    found = log_message(store.ensure(fingerprints.checks_step(recipe, inputs), make, made_by))
    report_findings(found.folder)
    return found


@redact_errors()
def finetune(
    recipe: Recipe,
    prepared: Artifact,
    initial: Artifact,
    made_by: str = "a plain call",
    stop_check: StopCheck | None = None,
    show: "Show | None" = None,
) -> Artifact:
    """Train the model; its curves appear in MLflow during training.

    `show` is called every few seconds with the progress. Raises Pruned, after saving a checkpoint, if `stop_check`
    returns a reason to stop.
    """
    store, base = open_store(recipe.execution.store), fetch_base(recipe, made_by)
    logprobs = reference(recipe, prepared, base, made_by)
    inputs = {"prepare": prepared.digest, "initialise": initial.digest, "base": base.digest, **digest_of(logprobs)}
    step = fingerprints.finetune_step(recipe, inputs)

    def make(folder: Path) -> dict[str, Any]:
        from pipeline_lib.tracking.live_run import LiveRun
        from pipeline_lib.tracking.throughput import FEATURES_SECONDS
        from pipeline_lib.training.distributed.launch import launch_finetuned
        from pipeline_lib.training.finetune import write_finetuned
        from pipeline_lib.training.inputs import Inputs
        from pipeline_lib.training.progress import TrainingProgress

        work = store.work(step)
        compared = logprobs.folder if logprobs else None
        folders = Inputs(prepared.folder, shards_of(store), base.folder, initial.folder, reference=compared)
        train = write_finetuned if recipe.execution.ranks == 1 else partial(launch_finetuned, step=step)
        with exit_on_sigterm():
            features = cache_features(recipe, prepared, initial, base, made_by)
            with (
                TrainingProgress(recipe, show) as progress,
                LiveRun(recipe, step.fingerprint, made_by, work, stop_check) as live,
            ):
                watch = progress.wrap_watch(live, lambda: live.page)
                folders = folders._replace(features=features.folder if features else None)
                train(recipe, folders, work, watch, folder)
        facts = live.facts()
        if features:
            facts["measured"][FEATURES_SECONDS] = features_seconds(features)
        return facts

    return log_message(store.ensure(step, make, made_by))


@redact_errors()
def evaluate(
    recipe: Recipe, prepared: Artifact, found: Artifact, model: Artifact, made_by: str = "a plain call"
) -> Artifact:
    """Write predictions, scores with intervals, figures and the report."""
    store, base = open_store(recipe.execution.store), fetch_base(recipe, made_by)
    columns = slice_columns(recipe, prepared, base, made_by) if recipe.evaluation.columns else None
    inputs = {"prepare": prepared.digest, "checks": found.digest, "finetune": model.digest}
    logprobs = reference(recipe, prepared, base, made_by)
    inputs |= {"columns": columns.digest} if columns else {}
    inputs |= digest_of(logprobs)
    step = fingerprints.evaluate_step(recipe, inputs)

    def make(folder: Path) -> dict[str, Any]:
        from pipeline_lib.data.slice_columns import read_columns
        from pipeline_lib.evaluation.evaluate import write_evaluation
        from pipeline_lib.training.inputs import Inputs

        values = read_columns(columns.folder) if columns else {}
        findings = read_findings(found.folder)
        compared = logprobs.folder if logprobs else None
        folders = Inputs(prepared.folder, shards_of(store), base.folder, model.folder, reference=compared)
        return write_evaluation(recipe, folders, values, findings, folder)

    return log_message(store.ensure(step, make, made_by))


@redact_errors()
def publish(
    recipe: Recipe, prepared: Artifact, model: Artifact, scores: Artifact, made_by: str = "a plain call"
) -> dict[str, str]:
    """Publish training, evaluation and model to MLflow, each once; returns their addresses by these names."""
    store, base = open_store(recipe.execution.store), fetch_base(recipe, made_by)
    if known := receipt(recipe, store, scores):
        return known
    from pipeline_lib.tracking.left_runs import settle_left_runs
    from pipeline_lib.tracking.publish import publish_run

    addresses = publish_run(recipe, prepared, model, scores, base.folder, made_by)
    write_receipt(recipe, store, scores, addresses)
    settle_left_runs(recipe)
    return addresses
