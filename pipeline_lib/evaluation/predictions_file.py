"""What metrics are taken from, kept row by row, so that two evaluations can be compared without either model."""

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
    """An outcome of n rows, and for each row [n] uint64 what it holds, the same in every run that reads such a row."""

    outcome: Predictions | RowCounts
    rows: np.ndarray

    def only(self, which: np.ndarray) -> "KeyedPredictions":
        """The rows at these indices, or where a mask is true."""
        rows = np.arange(len(self.rows))[which]
        return KeyedPredictions(self.outcome.take(rows), self.rows[rows])

    @property
    def ordered(self) -> "KeyedPredictions":
        """By what the rows hold: the order of two runs that read the same files may differ."""
        return self.only(np.lexsort((self.outcome.group_of_row, self.rows)))


def write_predictions(
    outcome: Predictions | RowCounts, split: "SplitExamples", hidden: Sequence[str], folder: Path
) -> None:
    """Write outcome.parquet; `hidden` names the columns that are the model's and not the row's own.

    A row's group is the key that the split keeps together: the value of `split.by`, else what makes rows equal.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    plain = isinstance(outcome, Predictions)
    parts = {name: getattr(outcome, name) for name in PARTS} if isinstance(outcome, Predictions) else outcome.counts
    columns = {name: _column(values) for name, values in parts.items() if values is not None}
    groups = {} if outcome.groups is None else {"group": pa.array(outcome.groups)}
    table = pa.table({"row": pa.array(_holds(len(outcome), split, hidden)), **groups, **columns})
    pq.write_table(table.replace_schema_metadata({"kind": "outcome" if plain else "sums"}), folder / OUTCOME)


def read_predictions(folder: Path) -> KeyedPredictions:
    """What `write_outcome` has written."""
    import pyarrow.parquet as pq

    table = pq.read_table(folder / OUTCOME)
    parts = {name: _values(table[name]) for name in table.column_names}
    rows, groups, kind = parts.pop("row"), parts.pop("group", None), table.schema.metadata[b"kind"]
    if kind == b"outcome":
        return KeyedPredictions(Predictions(parts["gold"], parts["guess"], parts.get("probabilities"), groups), rows)
    return KeyedPredictions(RowCounts(parts, groups), rows)


def in_groups(outcome: Predictions | RowCounts, split: "SplitExamples") -> Predictions | RowCounts:
    """The outcome with the groups of its rows; of blocks that go across rows each is one of its own."""
    return outcome.in_groups(split.rows["key"].to_numpy()) if len(outcome) == len(split.rows) else outcome


def _holds(units: int, split: "SplitExamples", hidden: Sequence[str]) -> np.ndarray:
    """[units] a hash of each row's own columns; of token ids where units are blocks that go across rows."""
    if units == len(split.rows):
        names = [name for name in split.rows.column_names if name not in ("key", "line", *hidden)]
        own: list[Any] = split.rows.select(names).to_pylist()
    else:
        own = [split.encoded.ids[index].tolist() for index in range(units)]
    texts = (json.dumps(row, sort_keys=True, ensure_ascii=True, default=str) for row in own)
    hashes = [int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) for text in texts]
    return np.array(hashes, np.uint64)


def _column(values: np.ndarray) -> "pyarrow.Array":
    """[n] as it is, [n, k] as lists of k."""
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
