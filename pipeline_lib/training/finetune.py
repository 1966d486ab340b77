"""The step `finetune`: train the initial model on the prepared rows; write the model and its history."""

import math
from pathlib import Path

from pipeline_lib.data.examples import Examples
from pipeline_lib.models.building import write_trained
from pipeline_lib.models.parameter_depth import shape_of
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.training.checkpoint import Checkpoints
from pipeline_lib.training.device import precision_of
from pipeline_lib.training.fast_paths.embeddings import narrow_embeddings
from pipeline_lib.training.frozen_backbone.feature_cache import with_features
from pipeline_lib.training.inputs import Inputs
from pipeline_lib.training.loop import Loop, Watch
from pipeline_lib.training.parameters import freeze_and_resolve, write_table
from pipeline_lib.training.setup import TrainingSetup
from pipeline_lib.util.freed_memory import return_freed_memory
from pipeline_lib.util.strict_json import strict_json


@return_freed_memory()
def write_finetuned(recipe: Recipe, inputs: Inputs, work: Path, watch: Watch, folder: Path) -> None:
    """Train and write model/, history.parquet, parameters.parquet and summary.json.

    In a distributed training all processes train and rank 0 writes.

    Args:
        recipe: The recipe.
        inputs: Folders to read from.
        work: Folder of the checkpoints, which survives an interrupted training.
        watch: Receives new records of the history.
        folder: Empty folder to write to.
    """
    loop = build_loop(recipe, inputs, work, watch)
    loop.run()
    if not loop.accelerator.is_main_process:
        return
    trained = [row.name for row in loop.table if row.trained]
    precision, scale = precision_of(loop.accelerator), loop.validation.scale
    input_roles = recipe.objective.input_roles_for(recipe.data.columns)
    budget = (
        loop.stepper.batch_tokens
    )  # fewer than in the recipe if memory ran out: predictions have the same memory limit
    write_trained(loop.model, trained, inputs.initial, precision, folder / "model", scale, input_roles, budget)
    write_table(loop.table, folder / "parameters.parquet")
    _write_history(loop, folder / "history.parquet")
    (folder / "summary.json").write_text(strict_json(_summary(loop), indent=1), encoding="utf-8")


def build_loop(recipe: Recipe, inputs: Inputs, work: Path, watch: Watch = lambda records, steps: None) -> Loop:
    """Build the training loop of a recipe; it starts from the last checkpoint in `work` if there is one."""
    setup = TrainingSetup.load(recipe, inputs)
    _refuse_no_reference(recipe, setup.train.encoded)
    backbone = setup.backbone()
    train, validation = setup.train.encoded, setup.validation
    if backbone and inputs.features and setup.sharding == "none":
        train = with_features(train, backbone, inputs.features, "train")
        validation = validation._replace(
            encoded=with_features(validation.encoded, backbone, inputs.features, "validation")
        )
    decay = sum(regularizer.weight_decay() for regularizer in recipe.regularizers)
    table = freeze_and_resolve(setup.model, setup.head, recipe.strategies, recipe.training.learning_rate, decay)
    vocabulary = None
    if not recipe.objective.stochastic_targets:  # masking can insert tokens that occur in no row
        trained = [row.name for row in table if row.trained]
        vocabulary = narrow_embeddings(setup.model, trained, [train, validation.encoded], setup.pad)
    return Loop(
        recipe,
        setup.model,
        setup.head,
        table,
        train,
        validation,
        setup.pad,
        setup.here,
        Checkpoints(work, setup.here, recipe.execution.store if recipe.execution.machines > 1 else None),
        backbone,
        watch,
        vocabulary,
        setup.sharding,
    )


def _refuse_no_reference(recipe: Recipe, train: Examples) -> None:
    """Raise ValueError if the loss needs reference log-probabilities and the training rows have none."""
    if "train" in recipe.objective.reference_splits and train.reference is None:
        raise ValueError("the loss needs reference log-probabilities, and the training rows have none")


def _write_history(loop: Loop, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            ("step", pa.int64()),
            ("epoch", pa.int64()),
            ("split", pa.string()),
            ("metric", pa.string()),
            ("value", pa.float64()),
        ]
    )
    pq.write_table(pa.Table.from_pylist(loop.state.history, schema), path)


def _summary(loop: Loop) -> dict[str, object]:
    counts = {name: math.prod(shape_of(parameter)) for name, parameter in loop.model.named_parameters()}
    return {
        "steps": loop.state.step,
        "epochs": loop.state.epoch,
        "best_step": loop.state.best_step,
        "best": loop.state.best,
        "parameters": sum(counts.values()),
        "trained_parameters": sum(counts[row.name] for row in loop.table if row.trained),
        "processes": loop.accelerator.num_processes,
        "sharding": loop.sharding,
        "device": str(loop.accelerator.device.type),
        "precision": precision_of(loop.accelerator),
        "batch_tokens": loop.stepper.batch_tokens,
    }
