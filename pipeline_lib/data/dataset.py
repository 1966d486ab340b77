"""Read what was prepared: the rows of a split, and token ids as flat arrays."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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


@dataclass(frozen=True)
class Encoded:
    """Token ids of all rows end to end; row i is ids[offsets[i]:offsets[i + 1]]. `segments` is None without pairs."""

    ids: "numpy.ndarray"
    segments: "numpy.ndarray | None"
    offsets: "numpy.ndarray"
    targets: "numpy.ndarray"

    @classmethod
    def of(cls, table: "pyarrow.Table", objective: "Objective", labels: list[str]) -> "Encoded":
        """From the rows of a split."""
        ids = table["input_ids"].combine_chunks()
        segments = table["token_type_ids"].combine_chunks()
        return cls(ids.values.to_numpy()[ids.offsets[0].as_py():], segments.values.to_numpy() if len(segments.values) else None,
                   ids.offsets.to_numpy() - ids.offsets[0].as_py(), objective.targets(table["label"], labels))

    @property
    def lengths(self) -> "numpy.ndarray":
        """[rows] tokens of each row."""
        return self.offsets[1:] - self.offsets[:-1]

    def __len__(self) -> int:
        return len(self.offsets) - 1
