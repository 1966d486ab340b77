"""Read shards by the source files they were made from, and report what of each file is unusable."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline_lib.data.shards import FILES, ROWS, UNUSABLE
from pipeline_lib.errors import RecipeError
from pipeline_lib.store.artifacts import Artifact

if TYPE_CHECKING:
    import pyarrow


class Shard(NamedTuple):
    """A shard, the split it belongs to in the recipe, and the names and digests of its source files."""

    split: str
    files: Sequence[str]
    digests: Sequence[str]
    artifact: Artifact


class FileRows(NamedTuple):
    """The rows of one source file."""

    split: str
    """The split the file belongs to in the recipe."""
    name: str
    sha256: str
    shard: int
    """Index of its shard."""
    rows_file: Path
    """The shard's file of rows."""
    first: int
    """Index of its first row in the shard."""
    rows: "pyarrow.Table"
    unusable: "pyarrow.Table"

    def columns(self, names: list[str]) -> "pyarrow.Table":
        """Read other columns of its rows."""
        import pyarrow.parquet as pq

        return pq.read_table(self.rows_file, columns=names).slice(self.first, len(self.rows))


def read_files(shards: Sequence[Shard], columns: list[str]) -> Iterator[FileRows]:
    """Yield each source file with these columns of its rows, in the order of the shards and of the files in them."""
    import pyarrow.parquet as pq

    for index, shard in enumerate(shards):
        folder = shard.artifact.folder
        rows, unusable = pq.read_table(folder / ROWS, columns=columns), pq.read_table(folder / UNUSABLE)
        counts = json.loads((folder / FILES).read_text(encoding="utf-8"))
        first = first_unusable = 0
        for name, digest, count in zip(shard.files, shard.digests, counts, strict=True):
            own_rows = rows.slice(first, count["rows"])
            own_unusable = unusable.slice(first_unusable, count["unusable"])
            yield FileRows(shard.split, name, digest, index, folder / ROWS, first, own_rows, own_unusable)
            first += count["rows"]
            first_unusable += count["unusable"]


def unusable_rows(files: Sequence[FileRows]) -> "pyarrow.Table":
    """Return the unusable rows of all files with the names of the files."""
    import pyarrow as pa

    names = [file.name for file in files for _ in range(len(file.unusable))]
    table = pa.concat_tables([file.unusable for file in files])
    return table.add_column(0, "file", pa.array(names, pa.string()))


def report_file(file: FileRows, max_unusable: float) -> dict[str, Any]:
    """Count the rows of one file; raise RecipeError if more are unusable than the recipe allows."""
    rows, bad = len(file.rows), file.unusable.to_pylist()
    if len(bad) > max_unusable * (rows + len(bad)):
        raise RecipeError(
            "data.max_unusable",
            max_unusable,
            f"{len(bad)} of {rows + len(bad)} rows of {file.name} are unusable ({first_reasons(bad)})",
            "Fix the rows, or allow a larger share",
        )
    return {"split": file.split, "file": file.name, "sha256": file.sha256, "rows": rows, "unusable": len(bad)}


def describe_left_out(prepared: Path) -> list[str]:
    """Describe what a run does without, as sentences: unusable rows by file with reasons, and empty splits."""
    import pyarrow.parquet as pq

    report = json.loads((prepared / "report.json").read_text(encoding="utf-8"))
    bad = pq.read_table(prepared / UNUSABLE).to_pylist()
    sentences, begin = [], 0
    for file in report["files"]:  # unusable.parquet has the rows of all files, in the order of the files
        rows = bad[begin : begin + file["unusable"]]
        begin += file["unusable"]
        if rows:
            share = _share(rows, file["rows"])
            sentences.append(f"{share} rows of {file['file']} are unusable and skipped ({first_reasons(rows)})")
    return [*sentences, *report["empty"]]


def first_reasons(unusable: list[dict[str, Any]]) -> str:
    """Describe the first three unusable rows by line and reason."""
    return "; ".join(f"line {row['line']}: {row['reason']}" for row in unusable[:3])


def _share(unusable: list[dict[str, Any]], rows: int) -> str:
    total = rows + len(unusable)
    return f"{len(unusable):,} of {total:,} ({len(unusable) / total:.1%})"
