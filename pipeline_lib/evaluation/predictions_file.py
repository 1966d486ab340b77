"""Predictions stored row by row, so that two evaluations can be compared without loading either model."""

import json
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipeline_lib.evaluation.predictions import Predictions, RowCounts

if TYPE_CHECKING:
    import pyarrow

    from pipeline_lib.data.examples import SplitExamples

OUTCOME = "outcome.parquet"
PARTS = ("gold", "guess", "probabilities")


class KeyedPredictions(NamedTuple):
    """Predictions of n rows and a content hash of each row, [n] uint64, which is the same in every run."""

    outcome: Predictions | RowCounts
    rows: np.ndarray

    def select_rows(self, which: np.ndarray) -> "KeyedPredictions":
        """Select rows by index or by boolean mask."""
        rows = np.arange(len(self.rows))[which]
        return KeyedPredictions(self.outcome.take(rows), self.rows[rows])

    @property
    def sorted_by_hash(self) -> "KeyedPredictions":
        """Sorted by content hash, because two runs may read the same files in different order."""
        return self.select_rows(np.lexsort((self.outcome.group_of_row, self.rows)))


def write_predictions(
    outcome: Predictions | RowCounts, split: "SplitExamples", hidden: Sequence[str], folder: Path
) -> None:
    """Write outcome.parquet.

    A row's group is the key that the split keeps together: the value of `split.by`, else the row's deduplication key.

    Args:
        outcome: Predictions of n rows.
        split: The rows that were predicted.
        hidden: Columns that depend on the model, such as token ids; they are left out of the content hash.
        folder: Where to write.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    plain = isinstance(outcome, Predictions)
    parts = {name: getattr(outcome, name) for name in PARTS} if isinstance(outcome, Predictions) else outcome.counts
    columns = {name: _column(values) for name, values in parts.items() if values is not None}
    groups = {} if outcome.groups is None else {"group": pa.array(outcome.groups)}
    table = pa.table({"row": pa.array(_row_hashes(len(outcome), split, hidden)), **groups, **columns})
    pq.write_table(table.replace_schema_metadata({"kind": "outcome" if plain else "sums"}), folder / OUTCOME)


def read_predictions(folder: Path) -> KeyedPredictions:
    """Read what `write_predictions` wrote."""
    import pyarrow.parquet as pq

    table = pq.read_table(folder / OUTCOME)
    parts = {name: _values(table[name]) for name in table.column_names}
    rows, groups, kind = parts.pop("row"), parts.pop("group", None), table.schema.metadata[b"kind"]
    if kind == b"outcome":
        return KeyedPredictions(Predictions(parts["gold"], parts["guess"], parts.get("probabilities"), groups), rows)
    return KeyedPredictions(RowCounts(parts, groups), rows)


def assign_groups(outcome: Predictions | RowCounts, split: "SplitExamples") -> Predictions | RowCounts:
    """Assign each prediction the group of its row; blocks that span rows stay groups of their own."""
    return outcome.with_groups(split.rows["key"].to_numpy()) if len(outcome) == len(split.rows) else outcome


def _row_hashes(units: int, split: "SplitExamples", hidden: Sequence[str]) -> np.ndarray:
    """[units] hash of each row's own columns, or of the token ids if units are blocks that span rows."""
    if units == len(split.rows):
        names = [name for name in split.rows.column_names if name not in ("key", "line", *hidden)]
        contents: list[Any] = split.rows.select(names).to_pylist()
    else:
        contents = [split.encoded.ids[index].tolist() for index in range(units)]
    texts = (json.dumps(row, sort_keys=True, ensure_ascii=True, default=str) for row in contents)
    hashes = [int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) for text in texts]
    return np.array(hashes, np.uint64)


def _column(values: np.ndarray) -> "pyarrow.Array":
    """An Arrow column: [n] as is, [n, k] as lists of k values."""
    import pyarrow as pa

    if values.ndim == 1:
        return pa.array(values)
    rows, width = values.shape
    return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1) * width, pa.int32()), pa.array(values.ravel()))


def _values(column: "pyarrow.ChunkedArray") -> np.ndarray:
    import pyarrow as pa

    if not pa.types.is_list(column.type):
        return column.to_numpy()
    return column.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
