"""Export a trained model to a folder that other libraries load without this project, with a model card."""

import logging
import os
import shlex
import shutil
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.errors import RecipeError
from pipeline_lib.export.formats import Format, require_packages
from pipeline_lib.models.building import TRAINED
from pipeline_lib.pipeline.finished_run import lineage_of_run
from pipeline_lib.store import lineage

if TYPE_CHECKING:
    import pyarrow

log = logging.getLogger("tunesmith")


def export(source: Path, out: Path, overrides: Sequence[str] = (), format: Format = "huggingface") -> Path:
    """Write the model of a recipe's run, or of a model's folder, to the folder `out`, completely or not at all.

    Args:
        source: A recipe's file or the folder of a trained model.
        out: The folder to write; must be new or empty.
        overrides: Overrides of the recipe, as PATH=VALUE.
        format: What to write.

    Raises:
        RecipeError: If there is no such model, the format cannot hold it, or `out` is not empty.
    """
    from pipeline_lib.export.model_card import write_card
    from pipeline_lib.export.quantized import deviation_of

    require_packages(format)
    _refuse_taken(out)
    write = _writer(format)
    lineage_of_model = _find(source, overrides)
    # written to a temporary folder first, which is renamed when it is complete
    temporary = out.absolute().with_name(f".{out.name}.{uuid.uuid4().hex[:8]}")
    try:
        temporary.mkdir(parents=True)
        rows = _test_rows(lineage_of_model)
        write(lineage_of_model, temporary, rows)
        # an adapter can be loaded onto a base that is quantised again
        deviation = None if format == "peft" else deviation_of(lineage_of_model, rows)
        if deviation:
            log.info("%-11s %s", "export", deviation)
        write_card(lineage_of_model, lineage_of_model.name or out.absolute().name, temporary, format, deviation)
        if out.exists():  # an empty folder, as checked above
            out.rmdir()
        os.rename(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out


def _writer(format: Format) -> Callable[[lineage.Lineage, Path, "pyarrow.Table | None"], None]:
    """Return the function that writes a format."""
    if format == "peft":
        from pipeline_lib.export.peft import write_adapter

        return write_adapter
    if format == "onnx":
        from pipeline_lib.export.onnx import write_graph

        return write_graph
    if format == "gguf":
        from pipeline_lib.export.gguf import write_gguf

        return write_gguf
    from pipeline_lib.export.huggingface import write_plain

    return write_plain


def _find(source: Path, overrides: Sequence[str]) -> lineage.Lineage:
    if not source.is_dir():
        from pipeline_lib.recipe.loading import load

        command = shlex.join(["tunesmith", "run", str(source), *overrides])
        return lineage_of_run(load(source, list(overrides)), command)
    if overrides:
        hint = "Remove the overrides, or give the recipe instead of the folder"
        problem = "overrides a recipe, but the source is a trained model's folder"
        raise RecipeError("override", overrides[0], problem, hint)
    model = lineage.lineage_of_folder(source)
    if model.base is None and (model.model / TRAINED).exists():
        problem = "contains only the differences from its base, which is not in its store"
        raise RecipeError("RECIPE_OR_MODEL_FOLDER", str(source), problem, "Give the recipe, which names the base")
    return model


def _test_rows(model: lineage.Lineage) -> "pyarrow.Table | None":
    """The encoded test rows, if they are in the model's store."""
    from pipeline_lib.data.prepared import read_split

    if model.prepared is None:
        return None
    try:
        rows = read_split(model.prepared, model.prepared.parents[1] / "shard", "test")
    except OSError:  # a shard was removed by garbage collection
        return None
    return rows if len(rows) and "input_ids" in rows.column_names else None


def _refuse_taken(out: Path) -> None:
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise RecipeError("OUT", str(out), "already exists and is not empty", "Name a new folder")
