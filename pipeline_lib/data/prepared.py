"""Read prepared data: the rows of a split, the labels and the encoded examples."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.data.examples import SplitExamples
from pipeline_lib.data.shards import ROWS

if TYPE_CHECKING:
    import pyarrow

    from pipeline_lib.objectives import Objective


def read_split(prepared: Path, shards: Path, split: str) -> "pyarrow.Table":
    """Return all columns of a split's rows in the order of the shards; `shards` is the folder that contains them."""
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
    if not parts:  # an empty table with the same columns
        return pq.read_table(shards / fingerprints[0][:16] / ROWS).slice(0, 0)
    return pa.concat_tables(parts)


def read_labels(prepared: Path) -> list[str]:
    """Return the label names in the order of their ids."""
    return json.loads((prepared / "labels.json").read_text(encoding="utf-8"))


def load_split(prepared: Path, shards: Path, split: str, objective: "Objective") -> SplitExamples:
    """Load a split with its encoded examples, ready for training or prediction."""
    rows, labels = read_split(prepared, shards, split), read_labels(prepared)
    return SplitExamples(rows, labels, objective.features(rows, labels))
