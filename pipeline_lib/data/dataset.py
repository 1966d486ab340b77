"""Read what was prepared: the rows of a split, and token ids as flat arrays."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.data.shards import ROWS

if TYPE_CHECKING:
    import numpy
    import pyarrow

    from pipeline_lib.objectives import Objective


def read_split(prepared: Path, shards: Path, split: str) -> "pyarrow.Table":
    """All columns of a split's rows, in the order of the shards; `shards` is the folder that holds them."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    owner = pq.read_table(prepared / "splits.parquet", filters=pc.field("split") == split)
    fingerprints = json.loads((prepared / "shards.json").read_text(encoding="utf-8"))
    parts = []
    for index, fingerprint in enumerate(fingerprints):
        rows = owner.filter(pc.equal(owner["shard"], index))["row"]
        if len(rows):
            parts.append(pq.read_table(shards / fingerprint[:16] / ROWS).take(rows))
    return pa.concat_tables(parts) if parts else pq.read_table(shards / fingerprints[0][:16] / ROWS).slice(0, 0)


def read_labels(prepared: Path) -> list[str]:
    """The label names in the order of their ids."""
    return json.loads((prepared / "labels.json").read_text(encoding="utf-8"))


def read_encoded(prepared: Path, shards: Path, split: str, objective: "Objective") -> "Encoded":
    """Token ids and targets of a split."""
    return Encoded.of_rows(read_split(prepared, shards, split), read_labels(prepared), objective)


@dataclass(frozen=True)
class Encoded:
    """Token ids of all rows end to end; row i is ids[offsets[i]:offsets[i + 1]]. `segments` is None without pairs."""

    ids: "numpy.ndarray"
    segments: "numpy.ndarray | None"
    offsets: "numpy.ndarray"
    targets: "numpy.ndarray"

    @classmethod
    def of(cls, input_ids: Any, token_type_ids: Any, targets: "numpy.ndarray") -> "Encoded":
        """From columns of lists, as they stand in a shard or come from an objective's `encode`."""
        ids, segments = _flat(input_ids, "int32"), _flat(token_type_ids, "int8")
        return cls(
            ids.flatten().to_numpy(),
            segments.flatten().to_numpy() if segments.null_count == 0 else None,
            ids.offsets.to_numpy() - ids.offsets[0].as_py(),
            targets,
        )

    @classmethod
    def of_rows(cls, rows: "pyarrow.Table", labels: list[str], objective: "Objective") -> "Encoded":
        """From rows as `read_split` gives them."""
        return cls.of(rows["input_ids"], rows["token_type_ids"], objective.targets(rows["label"], labels))

    @property
    def lengths(self) -> "numpy.ndarray":
        """[rows] tokens of each row."""
        return self.offsets[1:] - self.offsets[:-1]

    def __len__(self) -> int:
        return len(self.offsets) - 1


def _flat(column: "pyarrow.ChunkedArray | list[Any]", kind: str) -> "pyarrow.ListArray":
    import pyarrow as pa

    return pa.array(column, pa.list_(pa.type_for_alias(kind))) if isinstance(column, list) else column.combine_chunks()
