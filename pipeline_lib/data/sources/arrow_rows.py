"""Read rows from Arrow record batches, validating each batch first because the file may be damaged."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.data.sources.base import Row
from pipeline_lib.data.sources.class_labels import class_labels, replace_label_ids
from pipeline_lib.errors import RecipeError

if TYPE_CHECKING:
    import pyarrow

UNREADABLE = (OSError, ValueError, OverflowError, MemoryError, NotImplementedError)
"""Errors that a damaged file can raise, in addition to Arrow's own; timestamps may exceed Python's range."""


def read_rows(
    schema: "pyarrow.Schema", batches: "Iterable[pyarrow.RecordBatch]", file: Path, kind: str
) -> Iterator[Row]:
    """Yield the rows of all batches, with class labels as names; `line` is the 1-based row number.

    Raises:
        RecipeError: Two columns have the same name, or a batch cannot be read.
    """
    import pyarrow as pa

    number = 0
    try:
        refuse_twice(schema.names, file)  # inside the try: decoding a damaged column name can fail
        labels = class_labels(schema)
        for batch in batches:
            batch.validate(full=True)  # without this, offsets beyond the data crash the process
            for values in batch.to_pylist():
                number += 1
                for name in labels:
                    values[name] = replace_label_ids(values[name], labels[name])
                yield Row(number, values)
    except (pa.ArrowException, *UNREADABLE) as error:
        raise unreadable(file, kind, number, error) from error


def unreadable(file: Path, kind: str, number: int, error: Exception) -> RecipeError:
    """Build the error for a file that cannot be read past a row."""
    problem = f"cannot be read as {kind} after row {number} ({error})"
    return RecipeError("data.source", str(file), problem, "Write the file again, or set the correct `kind`")


def refuse_twice(names: Sequence[str], file: Path) -> None:
    """Raise RecipeError if two columns have the same name: rows would contain only the last one's values."""
    if duplicate := next((name for name in names if names.count(name) > 1), None):
        problem = f"the column {duplicate!r} appears more than once"
        raise RecipeError("data.source", str(file), problem, "Rename one of the two, and write the file again")
