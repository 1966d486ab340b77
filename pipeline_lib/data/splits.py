"""Assign the rows of all shards to training, validation and test; write the splits, the labels and the data report."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.data.hash_split import RowLabels, draw_splits
from pipeline_lib.data.shard_files import FileRows, Shard, read_files, report_file, unusable_rows
from pipeline_lib.data.shards import UNUSABLE
from pipeline_lib.errors import RecipeError
from pipeline_lib.objectives.labels import are_fractions
from pipeline_lib.recipe.schema import Recipe

if TYPE_CHECKING:
    import numpy
    import pyarrow

SPLITS = ("train", "validation", "test")
NAMED = 5
"""Number of labels that an error lists."""


def write_splits(recipe: Recipe, shards: list[Shard], folder: Path) -> None:
    """Write splits.parquet (shard, row, file, split), shards.json, labels.json, report.json and unusable.parquet.

    Raises:
        RecipeError: A file has too many unusable rows, a required split is empty, or a validation or test file has
            none of the training labels.
    """
    import pyarrow.parquet as pq

    role = recipe.objective.label_role
    columns = ["key", *filter(None, (role, recipe.objective.answers_role))]
    files = list(read_files(shards, columns))
    described = [report_file(file, recipe.data.max_unusable) for file in files]
    tables = [file.rows for file in files]
    splits = _assign(recipe, files)
    empty = _empty_splits(recipe, tables, splits)
    labels = _labels(recipe, role, files, splits) if role else []
    pq.write_table(_owners(files, splits), folder / "splits.parquet")
    pq.write_table(unusable_rows(files), folder / UNUSABLE)
    rows = {name: sum(int((split == code).sum()) for split in splits) for code, name in enumerate(SPLITS)}
    _write(folder / "shards.json", [shard.artifact.fingerprint for shard in shards])
    _write(folder / "labels.json", labels)
    report = {
        "rows": rows,
        "groups": _groups(tables, splits),
        "labels": len(labels),
        "files": described,
        "empty": empty,
    }
    _write(folder / "report.json", report)


def _groups(tables: list[Any], splits: "list[numpy.ndarray]") -> dict[str, int]:
    """Count the groups of each split: distinct values of `split.by`, or else distinct rows."""
    import numpy as np

    keys, split = np.concatenate([table["key"].to_numpy() for table in tables]), np.concatenate(splits)
    return {name: len(np.unique(keys[split == code])) for code, name in enumerate(SPLITS)}


def _assign(recipe: Recipe, files: list[FileRows]) -> "list[numpy.ndarray]":
    """Return the split of every row as an index into SPLITS, by file.

    A split without files of its own takes its share from the training files; rows of other files keep their split.
    """
    import numpy as np

    given = {file.split for file in files}
    shares = {
        SPLITS.index(name): getattr(recipe.data.split, name) for name in ("test", "validation") if name not in given
    }
    train = [file.rows for file in files if file.split == "train"]
    keys = np.concatenate([table["key"].to_numpy() for table in train])
    labels, by = _row_labels(recipe, train), recipe.data.split.by
    drawn = draw_splits(
        keys,
        shares,
        labels,
        recipe.drawing_seed,
        stratify=not by and recipe.objective.label_role == "label",
        keep_last=not _are_numbers(recipe, train),
    )
    # The draw covers the concatenated training files; cut it back into one part per file.
    parts = iter(np.split(drawn, np.cumsum([len(table) for table in train])[:-1]))
    return [
        next(parts) if file.split == "train" else np.full(len(file.rows), SPLITS.index(file.split), np.int8)
        for file in files
    ]


def _row_labels(recipe: Recipe, tables: list[Any]) -> RowLabels | None:
    """Return the labels of the rows in the order of the tables; None if the objective has no labels.

    If questions may be unanswerable, the label of a question is whether it has an answer.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    role, answers = recipe.objective.label_role, recipe.objective.answers_role
    if answers:
        column = _concatenate_columns(tables, answers)
        return RowLabels.one_each(np.asarray(pc.list_value_length(column)) > 0)
    if not role:
        return None
    column = _concatenate_columns(tables, role)
    if not pa.types.is_list(column.type):
        return RowLabels.one_each(_codes(column))
    return RowLabels(np.asarray(pc.list_parent_indices(column)), _codes(pc.list_flatten(column)))


def _concatenate_columns(tables: list[Any], role: str) -> "pyarrow.Array":
    import pyarrow as pa

    chunks = [chunk for table in tables for chunk in table[role].chunks]
    return pa.concat_arrays(chunks) if chunks else pa.array([], tables[0].schema.field(role).type)


def _codes(column: "pyarrow.Array") -> "numpy.ndarray":
    """Return the index of each label in sorted order, so that the order of the files does not change the draw."""
    import numpy as np

    labels = column.dictionary_encode()
    codes = np.unique([str(label) for label in labels.dictionary.to_pylist()], return_inverse=True)[1]
    return codes.reshape(-1)[np.asarray(labels.indices)]


def _are_numbers(recipe: Recipe, tables: list[Any]) -> bool:
    import pyarrow as pa

    role = recipe.objective.label_role
    return bool(role) and pa.types.is_floating(tables[0].schema.field(role).type)


def _owners(files: list[FileRows], splits: "list[numpy.ndarray]") -> "pyarrow.Table":
    """Return a table with the shard, the row within it, the source file, and the split of every row."""
    import numpy as np
    import pyarrow as pa

    counts = [len(split) for split in splits]
    names = pa.DictionaryArray.from_arrays(pa.array(np.concatenate(splits)), pa.array(SPLITS))
    return pa.table(
        {
            "shard": np.repeat(np.array([file.shard for file in files], np.int32), counts),
            "row": np.concatenate([np.arange(file.first, file.first + len(file.rows)) for file in files]),
            "file": np.repeat(np.arange(len(files), dtype=np.int32), counts),
            "split": names.cast(pa.string()),
        }
    )


def _empty_splits(recipe: Recipe, tables: list[Any], splits: "list[numpy.ndarray]") -> list[str]:
    """Describe the splits that are empty although the recipe sets a share, as sentences with the reason.

    Raises:
        RecipeError: The run needs one of the empty splits.
    """
    source, split, sentences = recipe.data.source, recipe.data.split, []
    for code, name in enumerate(SPLITS):
        if any((part == code).any() for part in splits):
            continue
        if name == "train":
            hint = "Split by a column with more distinct values" if split.by else "Set smaller shares"
            raise RecipeError("data.split", split.model_dump(exclude_none=True), "leaves no rows for training", hint)
        if getattr(source, name) is None and (name == "test" or getattr(split, name) > 0):
            problem, hint = _why_empty(recipe, name, tables)
            if name == "test" or split.if_empty == "stop" or _stops_early(recipe):
                raise RecipeError(f"data.split.{name}", getattr(split, name), problem, hint)
            sentences.append(f"data.split.{name} {problem}. The last checkpoint is kept")
    return sentences


def _why_empty(recipe: Recipe, name: str, tables: list[Any]) -> tuple[str, str]:
    """Return why a split is empty, and how to fix it."""
    import numpy as np

    by, labels = recipe.data.split.by, _row_labels(recipe, tables)
    hint = f"Set a larger share, or set data.source.{name}"
    if labels is not None and len(labels.labels) and not _are_numbers(recipe, tables):
        counts = np.bincount(np.unique(labels.labels, return_inverse=True)[1].reshape(-1))
        if by:
            hint = f"Split by a column with more distinct values, or set data.source.{name}"
        elif (counts == 1).mean() > 0.5:
            problem = f"leaves no rows for {name}: most labels have a single row, which is used for training"
            hint = f"Add rows, or set data.source.{name}"
            if _look_like_numbers(recipe, tables):
                hint += "; for numeric targets set objective.problem_type: regression"
            return problem, hint
    return f"leaves no rows for {name}", hint


def _stops_early(recipe: Recipe) -> bool:
    return any(regularizer.kind == "early_stopping" for regularizer in recipe.regularizers)


def _look_like_numbers(recipe: Recipe, tables: list[Any]) -> bool:
    """Return whether the labels of a classification are decimal fractions, which suggests a regression target."""
    role = recipe.objective.label_role
    return role == "label" and are_fractions(recipe.objective.labels(_chunks(tables, role)))


def _chunks(tables: list[Any], role: str) -> "pyarrow.ChunkedArray":
    import pyarrow as pa

    return pa.chunked_array([_concatenate_columns(tables, role)])


def _labels(recipe: Recipe, role: str, files: list[FileRows], splits: "list[numpy.ndarray]") -> list[str]:
    """Return the labels of all rows; a check reports those that do not occur in training.

    Raises:
        RecipeError: The training rows have only one label, or a validation or test file has none of the training
            labels.
    """
    import pyarrow as pa

    objective, tables = recipe.objective, [file.rows for file in files]
    training = [table.filter(split == SPLITS.index("train")) for table, split in zip(tables, splits, strict=True)]
    labels = objective.labels(_chunks(training, role))
    if len(labels) == 1 or (not labels and pa.types.is_list(tables[0][role].type)):
        raise RecipeError(
            f"data.columns.{role}",
            getattr(recipe.data.columns, role),
            f"has only one label ({labels[0]!r})" if labels else "has no labels",
            "Choose the column with the labels to predict",
        )
    for file in files:
        names = objective.labels(file.rows[role])
        if names and not set(names) & set(labels):
            raise RecipeError(
                f"data.columns.{role}",
                names[0],
                f"appears in {_first_position(file, role, names[0])}, a file with none of the training labels",
                f"Use the same labels in all files; the training labels are {', '.join(labels[:NAMED])}",
            )
    return objective.labels(_chunks(tables, role))


def _first_position(file: FileRows, role: str, label: str) -> str:
    """Return the file and the line of the first row with a label, for an error."""
    table = file.columns(["line", role])
    rows = zip(table["line"].to_pylist(), table[role].to_pylist(), strict=True)
    line = next(line for line, value in rows if label in (value if isinstance(value, list) else [value]))
    return f"{file.name} (line {line})"


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False), encoding="utf-8")
