"""One source file -> one shard: clean, encoded rows as Parquet, and the list of rows that cannot be used."""

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.data.settings import Data
from pipeline_lib.data.sources.base import Unusable
from pipeline_lib.errors import RecipeError
from pipeline_lib.objectives.values import spelled

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
    raise RecipeError(field, name, f"is not a column of {file.name}", f"Choose one of {', '.join(found)}")


def write_shard(
    data: Data,
    objective: "Objective",
    tokenizer: "PreTrainedTokenizerBase",
    file: Path,
    folder: Path,
    vocabulary: int | None = None,
) -> None:
    """Encode one file, 2,048 rows at a time, so that memory stays flat.

    Raises RecipeError for a token beyond the `vocabulary` tokens that the base has embeddings for.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    unusable: list[Unusable] = []
    schema = pa.schema([("line", pa.int64()), ("key", pa.uint64()), *objective.arrow_schema()])
    with pq.ParquetWriter(folder / ROWS, schema, compression="zstd") as writer:
        rows = _clean_rows(data, objective, tokenizer, file, unusable)
        while batch := list(islice(rows, BATCH)):
            table = _encode(batch, objective, tokenizer, schema)
            _refuse_unembedded(table, tokenizer, vocabulary)
            writer.write_table(table)
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
        same = [group] if group else [clean[role] for role in objective.dedup_keys if role in clean]
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


def _refuse_unembedded(table: "pyarrow.Table", tokenizer: "PreTrainedTokenizerBase", vocabulary: int | None) -> None:
    """Raise RecipeError where a row has a token that the base has no embedding for: indexing it would end training."""
    import pyarrow as pa
    import pyarrow.compute as pc

    used = {tokenizer.pad_token_id: "fills up short rows"}
    for name in sorted({"input_ids", "target_ids", "rejected_ids"} & set(table.column_names)):
        ids = pc.list_flatten(table[name])
        if pa.types.is_list(ids.type):  # a row of several windows
            ids = pc.list_flatten(ids)
        used[pc.max(ids).as_py()] = "is in the data"
    for largest, why in used.items():
        if vocabulary is not None and largest is not None and largest >= vocabulary:
            token = tokenizer.convert_ids_to_tokens(largest)
            problem = f"has embeddings for {vocabulary:,} tokens, and its tokenizer has {len(tokenizer):,}"
            hint = "Call model.resize_token_embeddings(len(tokenizer)), save model and tokenizer, and name that folder"
            raise RecipeError("model.base", tokenizer.name_or_path, f"{problem}: {token!r} {why}", hint)
