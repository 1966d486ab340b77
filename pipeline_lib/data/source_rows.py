"""Find the source file of each prepared row."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy
    import pyarrow


def source_file_indices(prepared: Path, split: str) -> "numpy.ndarray":
    """Return the source file of each row [rows], as an index into the report's files, in the order of `read_split`."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    owner = pq.read_table(prepared / "splits.parquet", filters=pc.field("split") == split)
    return owner["file"].sort().to_numpy()


def add_source_files(prepared: Path, rows: "pyarrow.Table", split: str) -> "pyarrow.Table":
    """Add a column with the source file of each row of a split, before the column `line`."""
    import pyarrow as pa

    files = json.loads((prepared / "report.json").read_text(encoding="utf-8"))["files"]
    names = [files[file]["file"] for file in source_file_indices(prepared, split).tolist()]
    return rows.add_column(rows.column_names.index("line"), "file", pa.array(names, pa.string()))
