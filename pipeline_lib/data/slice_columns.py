"""Columns that no model reads, for the test rows: by which their scores are told apart."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.data.prepared import read_split
from pipeline_lib.data.source_rows import shards_of
from pipeline_lib.data.sources.base import Row
from pipeline_lib.objectives.values import spelled

if TYPE_CHECKING:
    from pipeline_lib.data.sources import Source

COLUMNS = "columns.parquet"


def write_columns(
    source: "Source", columns: Sequence[str], prepared: Path, shards: Path, files: Mapping[int, Path], folder: Path
) -> None:
    """Write columns.parquet: the test rows' values as text, empty where there is none, in the order of the rows.

    `files` holds the source files by the index of their shard.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    lines = read_split(prepared, shards, "test")["line"].to_pylist()
    places = list(zip(shards_of(prepared, "test").tolist(), lines, strict=True))
    found: dict[tuple[int, int], list[str]] = {}
    for shard in {shard for shard, _ in places}:
        wanted = {line for owner, line in places if owner == shard}
        for row in source.read(files[shard]):
            if isinstance(row, Row) and row.line in wanted:
                found[shard, row.line] = [spelled(row.values.get(column)) for column in columns]
    values = [[found[place][index] for place in places] for index in range(len(columns))]
    pq.write_table(pa.table(values, schema=pa.schema([(name, pa.string()) for name in columns])), folder / COLUMNS)


def read_columns(folder: Path) -> dict[str, list[str]]:
    """What `write_columns` has written."""
    import pyarrow.parquet as pq

    return pq.read_table(folder / COLUMNS).to_pydict()
