"""One source file -> one shard: clean, encoded rows as Parquet, and the list of rows that cannot be used."""

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.data.sources.base import Unusable
from pipeline_lib.errors import RecipeError
from pipeline_lib.objectives.values import spelled
from pipeline_lib.recipe import Data

if TYPE_CHECKING:
    import pyarrow
    from transformers import PreTrainedTokenizerBase

    from pipeline_lib.objectives import Objective

BATCH = 2048
FIRST = 100
"""Rows in which a column must show up: JSON leaves out what has no value."""
REASONS = 3
"""Unusable rows that an error tells of."""
ROWS, UNUSABLE = "rows.parquet", "unusable.parquet"


def refuse_missing_columns(data: Data, objective: "Objective", more: Mapping[str, str], file: Path, split: str) -> None:
    """Raise RecipeError if the first rows of a file lack a column, or if the file has no row.

    `more` names columns that are wanted beside the objective's, by the field that names them.
    """
    wanted = {f"data.columns.{role}": name for role, name in objective.columns(data.columns).items()}
    if data.split.by:
        wanted["data.split.by"] = data.split.by
    wanted |= more
    found: dict[str, None] = {}
    bad: list[Unusable] = []
    usable = 0
    for row in data.source.read(file):
        if isinstance(row, Unusable):
            bad = [*bad, row] if len(bad) < REASONS else bad
            continue
        found |= dict.fromkeys(row.values)
        if found.keys() >= set(wanted.values()):
            return
        usable += 1
        if usable == FIRST:
            break
    if not found:
        reasons = "; ".join(f"line {row.line}: {row.reason}" for row in bad)
        problem = f"holds no usable row ({reasons})" if bad else "holds no usable row"
        raise RecipeError(f"data.source.{split}", str(file), problem, "Check the file and the source's kind")
    field, name = next((field, name) for field, name in wanted.items() if name not in found)
    raise RecipeError(field, name, f"is no column of {file.name}", f"Choose one of {', '.join(found)}")


def write_shard(
    data: Data, objective: "Objective", tokenizer: "PreTrainedTokenizerBase", file: Path, folder: Path
) -> None:
    """Encode one file, 2,048 rows at a time, so that memory stays flat."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    unusable: list[Unusable] = []
    schema = pa.schema([("line", pa.int64()), ("key", pa.uint64()), *objective.arrow_schema()])
    with pq.ParquetWriter(folder / ROWS, schema, compression="zstd") as writer:
        rows = _clean_rows(data, objective, tokenizer, file, unusable)
        while batch := list(islice(rows, BATCH)):
            writer.write_table(_encode(batch, objective, tokenizer, schema))
    bad = pa.table(
        {"line": [u.line for u in unusable], "reason": [u.reason for u in unusable]},
        schema=pa.schema([("line", pa.int64()), ("reason", pa.string())]),
    )
    pq.write_table(bad, folder / UNUSABLE)


def _clean_rows(
    data: Data, objective: "Objective", tokenizer: "PreTrainedTokenizerBase", file: Path, unusable: list[Unusable]
) -> Iterator[dict[str, Any]]:
    roles = objective.columns(data.columns)
    for row in data.source.read(file):
        if isinstance(row, Unusable):
            unusable.append(row)
            continue
        try:
            clean = objective.clean({role: row.values.get(column) for role, column in roles.items()})
            clean = objective.read_row(tokenizer, clean)
        except ValueError as error:
            unusable.append(Unusable(row.line, str(error)))
            continue
        group = spelled(row.values.get(data.split.by)) if data.split.by else ""
        same = [group] if group else [clean[role] for role in objective.same_if if role in clean]
        yield {"line": row.line, "key": _key("\0".join(map(str, same))), **clean}


def _key(what: str) -> int:
    """What a split goes by: equal texts (or equal values of the column `by`) get equal keys on every machine."""
    return int.from_bytes(blake2b(what.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def _encode(
    batch: list[dict[str, Any]], objective: "Objective", tokenizer: "PreTrainedTokenizerBase", schema: "pyarrow.Schema"
) -> "pyarrow.Table":
    import pyarrow as pa

    columns = objective.encode(tokenizer, batch)
    columns |= {name: [row.get(name) for row in batch] for name in schema.names if name not in columns}
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)
