"""Which row of which shard is for training, validation and test; the labels; the data report."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline_lib.data.draw import draw
from pipeline_lib.data.shards import ROWS, UNUSABLE
from pipeline_lib.errors import RecipeError
from pipeline_lib.recipe import Recipe
from pipeline_lib.store.artifact import Artifact

if TYPE_CHECKING:
    import numpy
    import pyarrow

SPLITS = ("train", "validation", "test")


class Shard(NamedTuple):
    """The shard of one source file, and the split that the file was given for."""

    split: str
    file: str
    artifact: Artifact


def write_splits(recipe: Recipe, shards: list[Shard], folder: Path) -> None:
    """Write splits.parquet (shard, row, split), shards.json, labels.json, report.json and unusable.parquet.

    Raises RecipeError for too many unusable rows, an empty split, and a label that training never sees.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    unusable = [_unusable(shard) for shard in shards]
    files = [_counts(recipe, shard, bad) for shard, bad in zip(shards, unusable, strict=True)]
    role = recipe.objective.label_role
    columns = ["key", *([role] if role else [])]
    tables = [pq.read_table(shard.artifact.folder / ROWS, columns=columns) for shard in shards]
    splits = _assign(recipe, shards, tables)
    _refuse_empty(recipe, splits)
    labels = _labels(recipe, role, shards, tables, splits) if role else []
    pq.write_table(_owners(splits), folder / "splits.parquet")
    pq.write_table(pa.concat_tables(unusable), folder / UNUSABLE)
    rows = {name: sum(int((split == code).sum()) for split in splits) for code, name in enumerate(SPLITS)}
    _write(folder / "shards.json", [shard.artifact.fingerprint for shard in shards])
    _write(folder / "labels.json", labels)
    _write(folder / "report.json", {"rows": rows, "labels": len(labels), "files": files})


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
        first = "; ".join(f"line {row['line']}: {row['reason']}" for row in bad[:3])
        raise RecipeError(
            "data.max_unusable",
            recipe.data.max_unusable,
            f"{len(bad)} of {rows + len(bad)} rows of {shard.file} cannot be used ({first})",
            "Mend the rows, or allow a larger share",
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
    drawn = draw(keys, shares, _strata(recipe, train), recipe.drawing_seed)
    parts = iter(np.split(drawn, np.cumsum([len(table) for table in train])[:-1]))
    return [
        next(parts) if shard.split == "train" else np.full(len(table), SPLITS.index(shard.split), np.int8)
        for shard, table in zip(shards, tables, strict=True)
    ]


def _strata(recipe: Recipe, tables: list[Any]) -> "numpy.ndarray | None":
    """The rows' labels, of which every split is to have its share, by their place in the alphabet; None where there is
    not one label a row."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    role = recipe.objective.label_role
    if recipe.data.split.by or role != "label":
        return None
    column = pa.chunked_array([chunk for table in tables for chunk in table[role].chunks], tables[0][role].type)
    if pa.types.is_list(column.type):  # of several labels each combination is one
        column = pc.binary_join(column, "\x1f")
    labels = column.dictionary_encode().unify_dictionaries().combine_chunks()
    places = np.unique([str(label) for label in labels.dictionary.to_pylist()], return_inverse=True)[1]
    return places[labels.indices.to_numpy()]


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


def _refuse_empty(recipe: Recipe, splits: "list[numpy.ndarray]") -> None:
    source, split = recipe.data.source, recipe.data.split
    for code, name in enumerate(SPLITS):
        if any((part == code).any() for part in splits):
            continue
        if name == "train":
            mend = "Split by a column with more different values" if split.by else "Set aside smaller shares"
            raise RecipeError("data.split", split.model_dump(exclude_none=True), "leaves no row to train on", mend)
        if getattr(source, name) is None and (name == "test" or getattr(split, name) > 0):
            raise RecipeError(
                f"data.split.{name}",
                getattr(split, name),
                f"leaves no row for {name}",
                f"Set aside a larger share, or name data.source.{name}",
            )


def _labels(
    recipe: Recipe, role: str, shards: list[Shard], tables: list[Any], splits: "list[numpy.ndarray]"
) -> list[str]:
    """The labels of the training rows; raises RecipeError where another split has one more, or there is but one."""
    import pyarrow as pa

    objective = recipe.objective
    training = [table[role].filter(split == SPLITS.index("train")) for table, split in zip(tables, splits, strict=True)]
    labels = objective.labels(pa.chunked_array([chunk for column in training for chunk in column.chunks]))
    known = set(labels)
    for shard, table in zip(shards, tables, strict=True):
        for name in objective.labels(table[role]):
            if name not in known:
                raise RecipeError(
                    f"data.columns.{role}",
                    name,
                    f"stands in {_where(shard, role, name)} but in no row that is trained on",
                    "Add training rows with this label, or take those rows out",
                )
    if len(labels) == 1 or (not labels and pa.types.is_list(tables[0][role].type)):
        raise RecipeError(
            f"data.columns.{role}",
            getattr(recipe.data.columns, role),
            f"holds one label only ({labels[0]!r})" if labels else "holds no label",
            "Name the column that tells the rows apart",
        )
    return labels


def _where(shard: Shard, role: str, label: str) -> str:
    import pyarrow.parquet as pq

    table = pq.read_table(shard.artifact.folder / ROWS, columns=["line", role])
    rows = zip(table["line"].to_pylist(), table[role].to_pylist(), strict=True)
    line = next(line for line, has in rows if label in (has if isinstance(has, list) else [has]))
    return f"{shard.file} (line {line})"


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False), encoding="utf-8")
