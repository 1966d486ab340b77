"""The step `finetune`: from a starting point and prepared rows to a trained model with its history."""

import json
from pathlib import Path

from pipeline_lib.data.dataset import read_encoded
from pipeline_lib.models.base import load_tokenizer
from pipeline_lib.models.build import load_initial, write_trained
from pipeline_lib.recipe import Recipe
from pipeline_lib.training.checkpoint import Checkpoints
from pipeline_lib.training.device import accelerator, precision_of
from pipeline_lib.training.loop import Loop, Watch
from pipeline_lib.training.parameters import ParameterRow, thaw, write_table


def write_finetuned(
    recipe: Recipe, prepared: Path, shards: Path, base: Path, initial: Path, work: Path, watch: Watch, folder: Path
) -> None:
    """Write model/, history.parquet, parameters.parquet and summary.json; `work` keeps the checkpoints."""
    here = accelerator(recipe.execution)
    train, validation = (read_encoded(prepared, shards, split, recipe.objective) for split in ("train", "validation"))
    model, head = load_initial(base, initial)
    decay = sum(regularizer.weight_decay() for regularizer in recipe.regularizers)
    table = thaw(model, head, recipe.strategies, recipe.training.learning_rate, decay)
    loop = Loop(recipe, model, table, train, validation, _pad(initial), here, Checkpoints(work), watch)
    loop.run()
    write_trained(model, initial, precision_of(loop.accelerator), folder / "model")
    write_table(table, folder / "parameters.parquet")
    _write_history(loop, folder / "history.parquet")
    (folder / "summary.json").write_text(json.dumps(_summary(loop, table), indent=1), encoding="utf-8")


def _pad(initial: Path) -> int:
    return load_tokenizer(initial).pad_token_id


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


def _summary(loop: Loop, table: list[ParameterRow]) -> dict[str, object]:
    counts = {parameter: tensor.numel() for parameter, tensor in loop.model.named_parameters()}
    return {
        "steps": loop.state.step,
        "epochs": loop.state.epoch,
        "best_step": loop.state.best_step,
        "best": loop.state.best,
        "parameters": sum(counts.values()),
        "trained_parameters": sum(counts[row.name] for row in table if row.trained),
        "device": str(loop.accelerator.device.type),
        "precision": precision_of(loop.accelerator),
    }
