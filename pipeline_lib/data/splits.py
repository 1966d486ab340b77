"""Which row of which shard is for training, validation and test; the labels; the data report."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline_lib.data.shards import ROWS, UNUSABLE
from pipeline_lib.errors import RecipeError
from pipeline_lib.recipe import Recipe
from pipeline_lib.store.store import Artifact

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
    columns = ["key", "line", *([role] if role else [])]
    tables = [pq.read_table(shard.artifact.folder / ROWS, columns=columns) for shard in shards]
    splits = _assign(recipe, shards, tables)
    _refuse_empty(recipe, splits)
    labels = _labels(recipe, role, shards, tables, splits) if role else []
    owner = pa.table(
        {
            "shard": pa.array(_repeat(range(len(tables)), tables), pa.int32()),
            "row": pa.array([row for table in tables for row in range(len(table))], pa.int64()),
            "split": pa.array([name for split in splits for name in split]),
        }
    )
    pq.write_table(owner, folder / "splits.parquet")
    pq.write_table(pa.concat_tables(unusable), folder / UNUSABLE)
    rows = {name: sum(int((split == name).sum()) for split in splits) for name in SPLITS}
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
    """The split of every row, by shard. Shares are drawn from the training files alone."""
    import numpy as np

    splits = [np.full(len(table), shard.split, dtype="<U10") for shard, table in zip(shards, tables, strict=True)]
    given = {shard.split for shard in shards}
    shares = {name: getattr(recipe.data.split, name) for name in ("test", "validation") if name not in given}
    train = [index for index, shard in enumerate(shards) if shard.split == "train"]
    keys = np.concatenate([tables[index]["key"].to_numpy() for index in train])
    drawn = draw(keys, shares, _strata(recipe, [tables[index] for index in train]), recipe.drawing_seed)
    begins = np.cumsum([0, *(len(tables[index]) for index in train)])
    for index, begin, end in zip(train, begins[:-1], begins[1:], strict=True):
        splits[index] = drawn[begin:end]
    return splits


def _strata(recipe: Recipe, tables: list[Any]) -> "numpy.ndarray | None":
    """The rows' labels, of which every split is to have its share; None where there is not one label a row."""
    import numpy as np

    role = recipe.objective.label_role
    if recipe.data.split.by or role != "label":
        return None
    return np.array([str(label) for table in tables for label in table[role].to_pylist()])


def draw(keys: "numpy.ndarray", shares: dict[str, float], strata: "numpy.ndarray | None", seed: int) -> "numpy.ndarray":
    """Split names [rows] by hash key: in each stratum the lowest keys go to the first share, the next to the second.

    keys: [rows] uint64, equal for rows that must stay together. strata: [rows] labels, or None for one stratum;
    where no label has enough rows for strata, as in regression, there is one. Rows of one key that differ in their
    label are all of the stratum of the first label, so that they stay together too.
    """
    import numpy as np

    names = np.full(len(keys), "train", dtype="<U10")
    mixed = _mixed(keys, seed)
    groups = _groups(None if strata is None else _of_key(keys, strata), len(keys))
    for rows in groups:
        ordered = np.sort(mixed[rows])
        begin = 0
        for name, share in shares.items():
            end = min(begin + round(share * len(rows)), len(rows))
            if end > begin:
                low, high = ordered[begin], ordered[end - 1]
                names[rows[(mixed[rows] >= low) & (mixed[rows] <= high) & (names[rows] == "train")]] = name
            begin = end
    return names


def _mixed(keys: "numpy.ndarray", seed: int) -> "numpy.ndarray":
    """The keys permuted, another way for every seed, so that draws have no more in common than chance has.

    SplitMix64's step and finalizer (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
    """
    import numpy as np

    mixed = keys + np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _of_key(keys: "numpy.ndarray", strata: "numpy.ndarray") -> "numpy.ndarray":
    """[rows] the first label, by alphabet, of all rows that share the row's key."""
    import numpy as np

    order = np.lexsort((strata, keys))
    _, first, key = np.unique(keys[order], return_index=True, return_inverse=True)
    labels = np.empty_like(strata)
    labels[order] = strata[order][first][key]
    return labels


def _groups(strata: "numpy.ndarray | None", rows: int) -> "list[numpy.ndarray]":
    import numpy as np

    if strata is None or len(np.unique(strata)) > rows / 5:
        return [np.arange(rows)]
    order = np.argsort(strata, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(np.unique(strata, return_inverse=True)[1][order])) + 1)


def _refuse_empty(recipe: Recipe, splits: "list[numpy.ndarray]") -> None:
    source, split = recipe.data.source, recipe.data.split
    for name in SPLITS:
        if any((part == name).any() for part in splits):
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
    training = [table[role].filter(split == "train") for table, split in zip(tables, splits, strict=True)]
    labels = objective.labels(pa.chunked_array([chunk for column in training for chunk in column.chunks]))
    known = set(labels)
    for shard, table in zip(shards, tables, strict=True):
        for name in objective.labels(table[role]):
            if name not in known:
                raise RecipeError(
                    f"data.columns.{role}",
                    name,
                    f"stands in {_where(shard, table, role, name)} but in no row that is trained on",
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


def _where(shard: Shard, table: Any, role: str, label: str) -> str:
    rows = zip(table["line"].to_pylist(), table[role].to_pylist(), strict=True)
    line = next(line for line, has in rows if label in (has if isinstance(has, list) else [has]))
    return f"{shard.file} (line {line})"


def _repeat(values: Iterable[int], tables: list[Any]) -> list[int]:
    return [value for value, table in zip(values, tables, strict=True) for _ in range(len(table))]


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False), encoding="utf-8")
