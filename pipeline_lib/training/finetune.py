"""The step `finetune`: from a starting point and prepared rows to a trained model with its history."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.data.dataset import Split, encoded_split
from pipeline_lib.models.base import load_tokenizer
from pipeline_lib.models.build import load_initial, write_trained
from pipeline_lib.models.prompts import prompted
from pipeline_lib.recipe import Recipe
from pipeline_lib.training.checkpoint import Checkpoints
from pipeline_lib.training.device import accelerator, precision_of
from pipeline_lib.training.loop import Loop, Watch
from pipeline_lib.training.parameters import thaw, write_table

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def write_finetuned(
    recipe: Recipe, prepared: Path, shards: Path, base: Path, initial: Path, work: Path, watch: Watch, folder: Path
) -> None:
    """Write model/, history.parquet, parameters.parquet and summary.json; `work` keeps the checkpoints.

    In one of several processes: train with the others, and let rank 0 write.
    """
    loop = build_loop(recipe, prepared, shards, base, initial, work, watch)
    loop.run()
    if not loop.accelerator.is_main_process:
        return
    trained = [row.name for row in loop.table if row.trained]
    write_trained(loop.model, trained, initial, precision_of(loop.accelerator), folder / "model")
    write_table(loop.table, folder / "parameters.parquet")
    _write_history(loop, folder / "history.parquet")
    (folder / "summary.json").write_text(json.dumps(_summary(loop), indent=1), encoding="utf-8")


def build_loop(
    recipe: Recipe, prepared: Path, shards: Path, base: Path, initial: Path, work: Path, watch: Watch = lambda _: None
) -> Loop:
    """The training of a recipe, ready for its first step or to go on from its last checkpoint in `work`."""
    model, head = load_initial(base, initial, recipe.regularizers)
    tokenizer = load_tokenizer(initial)
    train, validation = (
        _ready(recipe, tokenizer, encoded_split(prepared, shards, split, recipe.objective))
        for split in ("train", "validation")
    )
    decay = sum(regularizer.weight_decay() for regularizer in recipe.regularizers)
    table = thaw(model, head, recipe.strategies, recipe.training.learning_rate, decay)
    pad, here = tokenizer.pad_token_id, accelerator(recipe.execution)
    return Loop(recipe, model, head, table, train.encoded, validation, pad, here, Checkpoints(work), watch)


def _ready(recipe: Recipe, tokenizer: "PreTrainedTokenizerBase", split: Split) -> Split:
    return split._replace(encoded=prompted(split.encoded, recipe.strategies, tokenizer))


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
