"""Parquet files, read batch by batch."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pipeline_lib.data.sources.arrow_rows import UNREADABLE, read_rows, unreadable
from pipeline_lib.data.sources.base import FileSource, Row, Unusable


class Parquet(FileSource):
    """Parquet files."""

    suffixes: ClassVar = (".parquet",)

    kind: Literal["parquet"]
    """Parquet files; integer class labels written by Hugging Face `datasets` are replaced by their names."""

    def read(self, file: Path) -> Iterator[Row | Unusable]:
        """Yield the rows of one file; `line` is the 1-based row number."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.ParquetFile(file)
            schema, batches = table.schema_arrow, table.iter_batches(batch_size=1024)
        except (pa.ArrowException, *UNREADABLE) as error:
            raise unreadable(file, "Parquet", 0, error) from error
        with table:
            yield from read_rows(schema, batches, file, "Parquet")
