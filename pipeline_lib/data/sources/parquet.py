"""Parquet files, read batch by batch."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import ClassVar, Literal

from pipeline_lib.data.sources.base import FileSource, Row, Unusable
from pipeline_lib.errors import RecipeError


class Parquet(FileSource):
    """Parquet files."""

    suffixes: ClassVar = (".parquet",)

    kind: Literal["parquet"]
    """Parquet files."""

    def read(self, file: Path) -> Iterator[Row | Unusable]:
        """The rows of one file; `line` is the row's number, from 1."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        number = 0
        try:
            with pq.ParquetFile(file) as table:
                rows = chain.from_iterable(batch.to_pylist() for batch in table.iter_batches(batch_size=1024))
                for number, values in enumerate(rows, 1):
                    yield Row(number, values)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            where = f"cannot be read as Parquet after row {number} ({error})"
            raise RecipeError("data.source", str(file), where, "Write the file again, or name its real kind") from error
