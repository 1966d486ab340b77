"""Rows of Arrow record batches, from whatever file. A batch is checked before it is read: a file may be damaged."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.data.sources.base import Row
from pipeline_lib.data.sources.class_labels import class_labels, named
from pipeline_lib.errors import RecipeError

if TYPE_CHECKING:
    import pyarrow

UNREADABLE = (OSError, ValueError, OverflowError, MemoryError, NotImplementedError)
"""What a damaged file raises: Arrow's own errors are among these, but for a few; times can be beyond Python's."""


def read_rows(
    schema: "pyarrow.Schema", batches: "Iterable[pyarrow.RecordBatch]", file: Path, kind: str
) -> Iterator[Row]:
    """The rows of batches, with the names of class labels; `line` is the row's number, from 1.

    Raises RecipeError where two columns have one name, and where a batch cannot be read.
    """
    import pyarrow as pa

    number = 0
    try:
        refuse_twice(schema.names, file)  # names can hold bytes that are no text
        labels = class_labels(schema)
        for batch in batches:
            batch.validate(full=True)  # else offsets beyond the data end the process
            for values in batch.to_pylist():
                number += 1
                for name in labels:
                    values[name] = named(values[name], labels[name])
                yield Row(number, values)
    except (pa.ArrowException, *UNREADABLE) as error:
        raise unreadable(file, kind, number, error) from error


def unreadable(file: Path, kind: str, number: int, error: Exception) -> RecipeError:
    """The error for a file that cannot be read on from a row."""
    problem = f"cannot be read as {kind} after row {number} ({error})"
    return RecipeError("data.source", str(file), problem, "Write the file again, or name its real kind")


def refuse_twice(names: Sequence[str], file: Path) -> None:
    """Raise RecipeError where two columns have one name: rows would hold the last one's values alone."""
    if twice := next((name for name in names if names.count(name) > 1), None):
        problem = f"the column {twice!r} appears more than once"
        raise RecipeError("data.source", str(file), problem, "Rename one of the two, and write the file again")
