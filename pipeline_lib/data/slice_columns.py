"""Store additional columns of the test rows, by which evaluation slices the scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.data.prepared import read_split
from pipeline_lib.data.source_rows import source_file_indices
from pipeline_lib.data.sources.base import Row
from pipeline_lib.objectives.values import to_key

if TYPE_CHECKING:
    from pipeline_lib.data.sources import Source

COLUMNS = "columns.parquet"


def write_columns(
    source: "Source", columns: Sequence[str], prepared: Path, shards: Path, files: Mapping[int, Path], folder: Path
) -> None:
    """Write columns.parquet: the values of the test rows as text, in the order of the rows; empty if missing.

    `files` maps the index of each source file in the data report to its path.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    lines = read_split(prepared, shards, "test")["line"].to_pylist()
    # A prepared row is identified by its source file and its line there, so each file is read only once.
    positions = list(zip(source_file_indices(prepared, "test").tolist(), lines, strict=True))
    wanted: dict[int, set[int]] = {}
    for file, line in positions:
        wanted.setdefault(file, set()).add(line)
    by_position: dict[tuple[int, int], list[str]] = {}
    for file, lines_of_file in wanted.items():
        for row in source.read(files[file]):
            if isinstance(row, Row) and row.line in lines_of_file:
                by_position[file, row.line] = [to_key(row.get(column)) for column in columns]
    values = [[by_position[position][index] for position in positions] for index in range(len(columns))]
    pq.write_table(pa.table(values, schema=pa.schema([(name, pa.string()) for name in columns])), folder / COLUMNS)


def read_columns(folder: Path) -> dict[str, list[str]]:
    """Read the columns written by `write_columns`."""
    import pyarrow.parquet as pq

    return pq.read_table(folder / COLUMNS).to_pydict()
