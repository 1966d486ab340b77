"""Parquet files, read batch by batch."""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import ClassVar, Literal

from pipeline_lib.data.sources.base import FileSource, Row, Unusable
from pipeline_lib.data.sources.class_labels import class_labels, named
from pipeline_lib.errors import RecipeError


def refuse_twice(names: Sequence[str], file: Path) -> None:
    """Raise RecipeError where two columns have one name: rows would hold the last one's values alone."""
    if twice := next((name for name in names if names.count(name) > 1), None):
        problem = f"the column {twice!r} stands more than once"
        raise RecipeError("data.source", str(file), problem, "Rename one of the two, and write the file again")


class Parquet(FileSource):
    """Parquet files."""

    suffixes: ClassVar = (".parquet",)

    kind: Literal["parquet"]
    """Parquet files; integers of a column that `datasets` wrote as class labels become their names."""

    def read(self, file: Path) -> Iterator[Row | Unusable]:
        """The rows of one file; `line` is the row's number, from 1."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        number = 0
        try:
            with pq.ParquetFile(file) as table:
                refuse_twice(table.schema_arrow.names, file)
                labels = class_labels(table.schema_arrow)
                rows = chain.from_iterable(batch.to_pylist() for batch in table.iter_batches(batch_size=1024))
                for number, values in enumerate(rows, 1):
                    for name in labels:
                        values[name] = named(values[name], labels[name])
                    yield Row(number, values)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            where = f"cannot be read as Parquet after row {number} ({error})"
            raise RecipeError("data.source", str(file), where, "Write the file again, or name its real kind") from error
