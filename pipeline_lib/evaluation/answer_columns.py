"""Convert predictions to Parquet columns."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow


def answer_column(values: Sequence[Any]) -> "pyarrow.Array":
    """Build an Arrow array from predictions; None becomes null, dictionaries of probabilities become maps."""
    import pyarrow as pa

    if not any(isinstance(value, dict) for value in values):
        return pa.array(values)
    pairs = [None if value is None else list(value.items()) for value in values]
    return pa.array(pairs, pa.map_(pa.string(), pa.float64()))
