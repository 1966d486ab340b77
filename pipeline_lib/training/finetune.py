"""The step `finetune`: from a starting point and prepared rows to a trained model with its history."""

from pathlib import Path

from pipeline_lib.data.examples import Examples
from pipeline_lib.models.building import write_trained
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.training.checkpoint import Checkpoints
from pipeline_lib.training.device import giving_back, precision_of
from pipeline_lib.training.fast_paths.embeddings import narrowed
from pipeline_lib.training.frozen_backbone.feature_cache import with_features
from pipeline_lib.training.inputs import Inputs
from pipeline_lib.training.loop import Loop, Watch
from pipeline_lib.training.parameters import freeze_and_resolve, write_table
from pipeline_lib.training.setup import TrainingSetup
from pipeline_lib.util.strict_json import strict_json


@giving_back()
def write_finetuned(recipe: Recipe, inputs: Inputs, work: Path, watch: Watch, folder: Path) -> None:
    """Write model/, history.parquet, parameters.parquet and summary.json; `work` keeps the checkpoints.

    In one of several processes: train with the others, and let rank 0 write.
    """
    loop = build_loop(recipe, inputs, work, watch)
    loop.run()
    if not loop.accelerator.is_main_process:
        return
    trained = [row.name for row in loop.table if row.trained]
    precision, scale = precision_of(loop.accelerator), loop.validation.scale
    asked = recipe.objective.asked_with(recipe.data.columns)
    write_trained(loop.model, trained, inputs.initial, precision, folder / "model", scale, asked)
    write_table(loop.table, folder / "parameters.parquet")
    _write_history(loop, folder / "history.parquet")
    (folder / "summary.json").write_text(strict_json(_summary(loop), indent=1), encoding="utf-8")


def build_loop(recipe: Recipe, inputs: Inputs, work: Path, watch: Watch = lambda records, steps: None) -> Loop:
    """The training of a recipe, ready for its first step or to go on from its last checkpoint in `work`."""
    begun = TrainingSetup.of(recipe, inputs)
    _refuse_no_reference(recipe, begun.train.encoded)
    trunk = begun.trunk()
    train, validation = begun.train.encoded, begun.validation
    if trunk and inputs.kept:
        train = with_features(train, trunk, inputs.kept, "train")
        validation = validation._replace(encoded=with_features(validation.encoded, trunk, inputs.kept, "validation"))
    decay = sum(regularizer.weight_decay() for regularizer in recipe.regularizers)
    table = freeze_and_resolve(begun.model, begun.head, recipe.strategies, recipe.training.learning_rate, decay)
    of_model, here = (begun.model, begun.head, table), begun.here
    vocabulary = None
    if not recipe.objective.stochastic_targets:  # else a batch may have tokens that no row has
        trained = [row.name for row in table if row.trained]
        vocabulary = narrowed(begun.model, trained, [train, validation.encoded], begun.pad)
    return Loop(recipe, *of_model, train, validation, begun.pad, here, Checkpoints(work), trunk, watch, vocabulary)


def _refuse_no_reference(recipe: Recipe, train: Examples) -> None:
    """Raise ValueError where the loss compares with a reference and the training rows have none."""
    if "train" in recipe.objective.reference_splits and train.reference is None:
        raise ValueError("the training rows have no reference, and the loss compares with one")


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
    counts = {parameter: tensor.numel() for parameter, tensor in loop.model.named_parameters()}
    return {
        "steps": loop.state.step,
        "epochs": loop.state.epoch,
        "best_step": loop.state.best_step,
        "best": loop.state.best,
        "parameters": sum(counts.values()),
        "trained_parameters": sum(counts[row.name] for row in loop.table if row.trained),
        "processes": loop.accelerator.num_processes,
        "device": str(loop.accelerator.device.type),
        "precision": precision_of(loop.accelerator),
    }
