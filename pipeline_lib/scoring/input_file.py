"""Read a Parquet file to be predicted; what is wrong with it ends in the project's error."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.data.sources.arrow_rows import UNREADABLE
from pipeline_lib.errors import RecipeError

if TYPE_CHECKING:
    import pyarrow as pa

State = tuple[int, int, int]


def read_schema(file: Path) -> "pa.Schema":
    """Return the columns of a file; raises RecipeError if it cannot be read, or two have the same name."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(file)
        names = schema.names
    except (pa.ArrowException, *UNREADABLE) as error:
        raise _unreadable(file, error) from error
    if duplicate := next((name for name in names if names.count(name) > 1), None):
        raise RecipeError("data", str(file), f"has several columns named {duplicate!r}", "Rename all but one")
    return schema


def read_batches(file: Path, rows: int) -> "Iterator[pa.RecordBatch]":
    """Yield the rows of a file in batches; raises RecipeError if they cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=rows):
                batch.validate(full=True)  # without this, offsets beyond the data crash the process
                yield batch
    except (pa.ArrowException, *UNREADABLE) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> RecipeError:
    return RecipeError("data", str(file), f"cannot be read as Parquet ({error})", "Write the file again")


def state_of(file: Path) -> State:
    """Return what changes when a file is written."""
    state = file.stat()
    return state.st_ino, state.st_size, state.st_mtime_ns


def refuse_changed_input(file: Path, state: State) -> None:
    """Raise RecipeError if a file was written since: its rows would get the predictions of others."""
    if state_of(file) != state:
        raise RecipeError("data", str(file), "changed while it was predicted", "Run again when nothing writes to it")
