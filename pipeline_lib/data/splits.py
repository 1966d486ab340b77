"""Which row of which shard is for training, validation and test; the labels; the data report."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline_lib.data.hash_split import RowLabels, draw_splits
from pipeline_lib.data.shards import ROWS, UNUSABLE
from pipeline_lib.errors import RecipeError
from pipeline_lib.objectives.labels import are_fractions
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.artifacts import Artifact

if TYPE_CHECKING:
    import numpy
    import pyarrow

SPLITS = ("train", "validation", "test")
NAMED = 5
"""Labels that an error names."""


class Shard(NamedTuple):
    """The shard of one source file, and the split that the file was given for."""

    split: str
    file: str
    artifact: Artifact


def write_splits(recipe: Recipe, shards: list[Shard], folder: Path) -> None:
    """Write splits.parquet (shard, row, split), shards.json, labels.json, report.json and unusable.parquet.

    Raises RecipeError for too many unusable rows, an empty split, and a given file without any label of the training.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    unusable = [_unusable(shard) for shard in shards]
    files = [_counts(recipe, shard, bad) for shard, bad in zip(shards, unusable, strict=True)]
    role = recipe.objective.label_role
    columns = ["key", *filter(None, (role, recipe.objective.answers_role))]
    tables = [pq.read_table(shard.artifact.folder / ROWS, columns=columns) for shard in shards]
    splits = _assign(recipe, shards, tables)
    empty = _empty_splits(recipe, tables, splits)
    labels = _labels(recipe, role, shards, tables, splits) if role else []
    pq.write_table(_owners(splits), folder / "splits.parquet")
    pq.write_table(pa.concat_tables(unusable), folder / UNUSABLE)
    rows = {name: sum(int((split == code).sum()) for split in splits) for code, name in enumerate(SPLITS)}
    _write(folder / "shards.json", [shard.artifact.fingerprint for shard in shards])
    _write(folder / "labels.json", labels)
    told = {"rows": rows, "groups": _groups(tables, splits), "labels": len(labels), "files": files, "empty": empty}
    _write(folder / "report.json", told)


def _groups(tables: list[Any], splits: "list[numpy.ndarray]") -> dict[str, int]:
    """How many groups of rows each split has: values of `split.by`, or rows that are not equal."""
    import numpy as np

    keys, split = np.concatenate([table["key"].to_numpy() for table in tables]), np.concatenate(splits)
    return {name: len(np.unique(keys[split == code])) for code, name in enumerate(SPLITS)}


def left_out(prepared: Path) -> list[str]:
    """What a run goes on without, as sentences: unusable rows by file with the first reasons, splits without a row."""
    import pyarrow.parquet as pq

    report = json.loads((prepared / "report.json").read_text(encoding="utf-8"))
    bad = pq.read_table(prepared / UNUSABLE).to_pylist()
    told, begin = [], 0
    for file in report["files"]:
        rows = bad[begin : begin + file["unusable"]]
        begin += file["unusable"]
        if rows:
            told.append(f"{_share(rows, file['rows'])} rows of {file['file']} are left out ({first_reasons(rows)})")
    return [*told, *report["empty"]]


def first_reasons(unusable: list[dict[str, Any]]) -> str:
    """The first three unusable rows by line and reason."""
    return "; ".join(f"line {row['line']}: {row['reason']}" for row in unusable[:3])


def _share(unusable: list[dict[str, Any]], rows: int) -> str:
    every = rows + len(unusable)
    return f"{len(unusable):,} of {every:,} ({len(unusable) / every:.1%})"


def _unusable(shard: Shard) -> "pyarrow.Table":
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(shard.artifact.folder / UNUSABLE)
    return table.add_column(0, "file", pa.array([shard.file] * len(table), pa.string()))


def _counts(recipe: Recipe, shard: Shard, unusable: "pyarrow.Table") -> dict[str, Any]:
    """Rows of one file; raises RecipeError past the share of unusable rows that the recipe allows."""
    import pyarrow.parquet as pq

    rows, bad = pq.read_metadata(shard.artifact.folder / ROWS).num_rows, unusable.to_pylist()
    if len(bad) > recipe.data.max_unusable * (rows + len(bad)):
        raise RecipeError(
            "data.max_unusable",
            recipe.data.max_unusable,
            f"{len(bad)} of {rows + len(bad)} rows of {shard.file} cannot be used ({first_reasons(bad)})",
            "Fix the rows, or allow a larger share",
        )
    return {"split": shard.split, "file": shard.file, "rows": rows, "unusable": len(bad)}


def _assign(recipe: Recipe, shards: list[Shard], tables: list[Any]) -> "list[numpy.ndarray]":
    """The place in SPLITS of every row's split, by shard. Shares are drawn from the training files alone."""
    import numpy as np

    given = {shard.split for shard in shards}
    shares = {
        SPLITS.index(name): getattr(recipe.data.split, name) for name in ("test", "validation") if name not in given
    }
    train = [table for shard, table in zip(shards, tables, strict=True) if shard.split == "train"]
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
    parts = iter(np.split(drawn, np.cumsum([len(table) for table in train])[:-1]))
    return [
        next(parts) if shard.split == "train" else np.full(len(table), SPLITS.index(shard.split), np.int8)
        for shard, table in zip(shards, tables, strict=True)
    ]


def _row_labels(recipe: Recipe, tables: list[Any]) -> RowLabels | None:
    """The labels that the rows have, in the order of the tables; None where the objective has none.

    Where a question may have no answer, whether it has one is its label.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    role, answers = recipe.objective.label_role, recipe.objective.answers_role
    if answers:
        column = _joined(tables, answers)
        return RowLabels.one_each(np.asarray(pc.list_value_length(column)) > 0)
    if not role:
        return None
    column = _joined(tables, role)
    if not pa.types.is_list(column.type):
        return RowLabels.one_each(_codes(column))
    return RowLabels(np.asarray(pc.list_parent_indices(column)), _codes(pc.list_flatten(column)))


def _joined(tables: list[Any], role: str) -> "pyarrow.Array":
    import pyarrow as pa

    chunks = [chunk for table in tables for chunk in table[role].chunks]
    return pa.concat_arrays(chunks) if chunks else pa.array([], tables[0].schema.field(role).type)


def _codes(column: "pyarrow.Array") -> "numpy.ndarray":
    """The place of each label in the alphabet: files in another order must not draw other rows."""
    import numpy as np

    labels = column.dictionary_encode()
    places = np.unique([str(label) for label in labels.dictionary.to_pylist()], return_inverse=True)[1]
    return places.reshape(-1)[np.asarray(labels.indices)]


def _are_numbers(recipe: Recipe, tables: list[Any]) -> bool:
    import pyarrow as pa

    role = recipe.objective.label_role
    return bool(role) and pa.types.is_floating(tables[0].schema.field(role).type)


def _owners(splits: "list[numpy.ndarray]") -> "pyarrow.Table":
    """Shard, row in it, and split of every row."""
    import numpy as np
    import pyarrow as pa

    counts = [len(split) for split in splits]
    names = pa.DictionaryArray.from_arrays(pa.array(np.concatenate(splits)), pa.array(SPLITS))
    return pa.table(
        {
            "shard": np.repeat(np.arange(len(splits), dtype=np.int32), counts),
            "row": np.concatenate([np.arange(count) for count in counts]),
            "split": names.cast(pa.string()),
        }
    )


def _empty_splits(recipe: Recipe, tables: list[Any], splits: "list[numpy.ndarray]") -> list[str]:
    """The splits that no row was set aside for though the recipe asks for a share, each with why, as sentences.

    Raises RecipeError where a run needs one of them.
    """
    source, split, told = recipe.data.source, recipe.data.split, []
    for code, name in enumerate(SPLITS):
        if any((part == code).any() for part in splits):
            continue
        if name == "train":
            hint = "Split by a column with more different values" if split.by else "Set aside smaller shares"
            raise RecipeError("data.split", split.model_dump(exclude_none=True), "leaves no row to train on", hint)
        if getattr(source, name) is None and (name == "test" or getattr(split, name) > 0):
            problem, hint = _why_empty(recipe, name, tables)
            if name == "test" or split.if_empty == "stop" or _stops_early(recipe):
                raise RecipeError(f"data.split.{name}", getattr(split, name), problem, hint)
            told.append(f"data.split.{name} {problem}. The last checkpoint is kept")
    return told


def _why_empty(recipe: Recipe, name: str, tables: list[Any]) -> tuple[str, str]:
    """What leaves a split empty, and the mend."""
    import numpy as np

    by, labels = recipe.data.split.by, _row_labels(recipe, tables)
    hint = f"Set aside a larger share, or name data.source.{name}"
    if labels is not None and len(labels.labels) and not _are_numbers(recipe, tables):
        counts = np.bincount(np.unique(labels.labels, return_inverse=True)[1].reshape(-1))
        if by:
            hint = f"Split by a column with more different values, or name data.source.{name}"
        elif (counts == 1).mean() > 0.5:
            problem = f"leaves no row for {name}: most labels have one row, which is trained on"
            hint = f"Add rows, or name data.source.{name}"
            if _look_like_numbers(recipe, tables):
                hint += "; for numbers choose objective.problem_type: regression"
            return problem, hint
    return f"leaves no row for {name}", hint


def _stops_early(recipe: Recipe) -> bool:
    return any(regularizer.kind == "early_stopping" for regularizer in recipe.regularizers)


def _look_like_numbers(recipe: Recipe, tables: list[Any]) -> bool:
    """Whether the labels of a classification are decimal fractions, as a number to be predicted has them."""
    role = recipe.objective.label_role
    return role == "label" and are_fractions(recipe.objective.labels(_chunks(tables, role)))


def _chunks(tables: list[Any], role: str) -> "pyarrow.ChunkedArray":
    import pyarrow as pa

    return pa.chunked_array([_joined(tables, role)])


def _labels(
    recipe: Recipe, role: str, shards: list[Shard], tables: list[Any], splits: "list[numpy.ndarray]"
) -> list[str]:
    """The labels of all rows; those that only a given file has are none that training teaches, and a check tells.

    Raises RecipeError where the training rows have but one label, or a given file none of theirs.
    """
    import pyarrow as pa

    objective = recipe.objective
    training = [table.filter(split == SPLITS.index("train")) for table, split in zip(tables, splits, strict=True)]
    labels = objective.labels(_chunks(training, role))
    if len(labels) == 1 or (not labels and pa.types.is_list(tables[0][role].type)):
        raise RecipeError(
            f"data.columns.{role}",
            getattr(recipe.data.columns, role),
            f"holds one label only ({labels[0]!r})" if labels else "holds no label",
            "Name the column that tells the rows apart",
        )
    for shard, table in zip(shards, tables, strict=True):
        names = objective.labels(table[role])
        if names and not set(names) & set(labels):
            raise RecipeError(
                f"data.columns.{role}",
                names[0],
                f"stands in {_where(shard, role, names[0])}, which has no label of the training rows",
                f"Spell labels alike in all files; the training rows have {', '.join(labels[:NAMED])}",
            )
    return objective.labels(_chunks(tables, role))


def _where(shard: Shard, role: str, label: str) -> str:
    import pyarrow.parquet as pq

    table = pq.read_table(shard.artifact.folder / ROWS, columns=["line", role])
    rows = zip(table["line"].to_pylist(), table[role].to_pylist(), strict=True)
    line = next(line for line, has in rows if label in (has if isinstance(has, list) else [has]))
    return f"{shard.file} (line {line})"


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False), encoding="utf-8")
