"""Write one shard per group of source files: clean, encoded rows as Parquet, and the list of unusable rows."""

import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.data.settings import Data
from pipeline_lib.data.sources.base import Unusable
from pipeline_lib.errors import RecipeError, raise_first
from pipeline_lib.objectives.values import to_key

if TYPE_CHECKING:
    import pyarrow
    from transformers import PreTrainedTokenizerBase

    from pipeline_lib.objectives import Objective

BATCH = 2048
FIRST = 100
"""Number of rows within which every column must appear; JSON objects may omit keys without a value."""
REASONS = 3
"""Number of unusable rows that an error lists."""
ROWS, UNUSABLE, FILES = "rows.parquet", "unusable.parquet", "files.json"


def refuse_missing_columns(data: Data, objective: "Objective", more: Mapping[str, str], file: Path, split: str) -> None:
    """Raise RecipeError if a required column is missing from the first rows of a file, or if no row is usable.

    `more` lists further required columns by the field that names them.
    """
    wanted = {f"data.columns.{role}": name for role, name in objective.columns(data.columns).items()}
    if data.split.by:
        wanted["data.split.by"] = data.split.by
    wanted |= more
    columns: dict[str, None] = {}  # a dict keeps their order for the error
    bad: list[Unusable] = []
    usable = 0
    for row in data.source.read(file):
        if isinstance(row, Unusable):
            bad = [*bad, row] if len(bad) < REASONS else bad
            continue
        columns |= dict.fromkeys(row.values)
        if columns.keys() >= set(wanted.values()):
            return
        usable += 1
        if usable == FIRST:
            break
    if not columns:
        reasons = "; ".join(f"line {row.line}: {row.reason}" for row in bad)
        problem = f"has no usable rows ({reasons})" if bad else "has no usable rows"
        raise RecipeError(f"data.source.{split}", str(file), problem, "Check the file and the source's kind")
    field, name = next((field, name) for field, name in wanted.items() if name not in columns)
    raise RecipeError(field, name, f"is not a column of {file.name}", f"Choose one of {', '.join(columns)}")


def write_shard(
    data: Data,
    objective: "Objective",
    tokenizer: "PreTrainedTokenizerBase",
    files: Sequence[Path],
    folder: Path,
    vocabulary: int | None = None,
) -> None:
    """Encode files in batches of 2,048 rows, so that memory use does not grow with the files.

    Args:
        data: The recipe's data settings.
        objective: Cleans and encodes the rows.
        tokenizer: The base's tokenizer.
        files: The source files.
        folder: Where to write rows.parquet, unusable.parquet, and files.json with each file's numbers of rows in them.
        vocabulary: Number of tokens that the base has embeddings for, None if unknown.

    Raises:
        RecipeError: A file cannot be read, or a row contains a token without an embedding.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    unusable: list[Unusable] = []
    counts: list[dict[str, int]] = []
    schema = pa.schema([("line", pa.int64()), ("key", pa.uint64()), *objective.arrow_schema()])
    with pq.ParquetWriter(folder / ROWS, schema, compression="zstd") as writer:
        rows = _rows_of_files(data, objective, tokenizer, files, unusable, counts)
        while batch := list(islice(rows, BATCH)):
            table = _encode(batch, objective, tokenizer, schema)
            _refuse_unembedded(table, tokenizer, vocabulary)
            writer.write_table(table)
    bad = pa.table(
        {"line": [row.line for row in unusable], "reason": [row.reason for row in unusable]},
        schema=pa.schema([("line", pa.int64()), ("reason", pa.string())]),
    )
    pq.write_table(bad, folder / UNUSABLE)
    (folder / FILES).write_text(json.dumps(counts), encoding="utf-8")


def _rows_of_files(
    data: Data,
    objective: "Objective",
    tokenizer: "PreTrainedTokenizerBase",
    files: Sequence[Path],
    unusable: list[Unusable],
    counts: list[dict[str, int]],
) -> Iterator[dict[str, Any]]:
    """Yield the usable rows of all files, and append the numbers of rows of each file to `counts`.

    A file that fails does not stop the others, so that all errors are reported at once; the first one is raised.
    """
    failed: list[Exception] = []
    for file in files:
        rows, others = 0, len(unusable)
        try:
            for row in _clean_rows(data, objective, tokenizer, file, unusable):
                rows += 1
                yield row
        except Exception as error:
            error.add_note(f"while encoding {file}")
            failed.append(error)
        counts.append({"rows": rows, "unusable": len(unusable) - others})
    raise_first(failed)


def _clean_rows(
    data: Data, objective: "Objective", tokenizer: "PreTrainedTokenizerBase", file: Path, unusable: list[Unusable]
) -> Iterator[dict[str, Any]]:
    """Yield the usable rows, cleaned by the objective; append the others to `unusable`."""
    roles = objective.columns(data.columns)
    for row in data.source.read(file):
        if isinstance(row, Unusable):
            unusable.append(row)
            continue
        try:
            clean = objective.clean({role: row.get(column) for role, column in roles.items()})
            clean = objective.read_row(tokenizer, clean)
        except ValueError as error:
            unusable.append(Unusable(row.line, str(error)))
            continue
        group = to_key(row.get(data.split.by)) if data.split.by else ""
        # Rows with the same key land in the same split: those of one group, else those with the same texts.
        key_parts = [group] if group else [clean[role] for role in objective.dedup_keys if role in clean]
        yield {"line": row.line, "key": _key("\0".join(map(str, key_parts))), **clean}


def _key(text: str) -> int:
    """Hash a text to the 64-bit key that the split is drawn by; the same on every machine."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def _encode(
    batch: list[dict[str, Any]], objective: "Objective", tokenizer: "PreTrainedTokenizerBase", schema: "pyarrow.Schema"
) -> "pyarrow.Table":
    """Encode a batch of clean rows to a table with the columns of `schema`."""
    import pyarrow as pa

    try:
        columns = objective.encode(tokenizer, batch)
    except Exception as error:
        if type(error) is not Exception:  # as the tokenizer's Rust code raises it
            raise
        problem, hint = f"has a tokenizer that fails on a text ({error})", "Check its vocabulary and its unknown token"
        raise RecipeError("model.base", tokenizer.name_or_path, problem, hint) from error
    columns |= {name: [row.get(name) for row in batch] for name in schema.names if name not in columns}
    try:
        return pa.table({name: columns[name] for name in schema.names}, schema=schema)
    except pa.ArrowInvalid as error:
        if "too large to fit in C integer" not in str(error):
            raise
        problem = f"has a tokenizer with a token id that is far too large ({error})"
        raise RecipeError("model.base", tokenizer.name_or_path, problem, "Check its vocabulary") from error


def _refuse_unembedded(table: "pyarrow.Table", tokenizer: "PreTrainedTokenizerBase", vocabulary: int | None) -> None:
    """Raise RecipeError if a row has a token without an embedding: looking it up would crash training."""
    import pyarrow as pa
    import pyarrow.compute as pc

    used = {tokenizer.pad_token_id: "is the padding token"}
    for name in sorted({"input_ids", "target_ids", "rejected_ids"} & set(table.column_names)):
        ids = pc.list_flatten(table[name])
        if pa.types.is_list(ids.type):  # rows with several windows are lists of lists
            ids = pc.list_flatten(ids)
        used[pc.max(ids).as_py()] = "is in the data"
    for largest, why in used.items():
        if vocabulary is not None and largest is not None and largest >= vocabulary:
            token = tokenizer.convert_ids_to_tokens(largest)
            problem = f"has embeddings for {vocabulary:,} tokens, but its tokenizer has {len(tokenizer):,} tokens"
            hint = "Call model.resize_token_embeddings(len(tokenizer)), save model and tokenizer, and use that folder"
            raise RecipeError("model.base", tokenizer.name_or_path, f"{problem}: {token!r} {why}", hint)
