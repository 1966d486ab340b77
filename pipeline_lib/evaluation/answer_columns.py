"""Answers as Parquet columns."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow


def answer_column(values: Sequence[Any]) -> "pyarrow.Array":
    """A column of answers, None where there is none; of probabilities by label a map."""
    import pyarrow as pa

    if not any(isinstance(value, dict) for value in values):
        return pa.array(values)
    pairs = [None if value is None else list(value.items()) for value in values]
    return pa.array(pairs, pa.map_(pa.string(), pa.float64()))
