"""Open files that may be compressed, and recognise files of other kinds than text, by their first bytes."""

import bz2
import gzip
import lzma
import zlib
from pathlib import Path
from typing import Any

from pipeline_lib.errors import RecipeError

SUFFIXES = (".gz", ".bz2", ".xz", ".zst", ".lz4")
DAMAGED = (EOFError, OSError, ValueError, lzma.LZMAError, zlib.error)
"""Errors that damaged compressed data raises; ValueError by Arrow's codecs."""
FORMATS = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x04\x22\x4d\x18", "lz4"),
)
BZIP2 = (b"BZh", b"1AY&SY")
"""How bzip2 data starts, before and after the digit of its level; the first part alone may be text."""
START = 16
"""Number of bytes in which all of these are seen."""
NO_TEXT = (
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook", "Unpack it, or export the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook", "Export the sheet as CSV"),
    (b"PAR1\x15", "a Parquet file", "Set `kind: parquet`"),
    (
        b"ARROW1\x00\x00",
        "an Arrow file",
        "Save it as Parquet, or use `kind: huggingface`",
    ),
    (b"SQLite format 3\x00", "an SQLite database", "Export the table as CSV"),
    (b"%PDF-", "a PDF", "Extract its text"),
)


def find_compression(start: bytes) -> str | None:
    """Return the compression of a file that starts with these bytes, None if it is not compressed."""
    if start.startswith(BZIP2[0]) and start[4:10] == BZIP2[1]:
        return "bzip2"
    return next((name for mark, name in FORMATS if start.startswith(mark)), None)


def open_file(file: Path, compression: str | None) -> Any:
    """Open the decompressed bytes of a file."""
    if compression == "gzip":
        return gzip.open(file)
    if compression == "bzip2":
        return bz2.open(file)
    if compression == "xz":
        return lzma.open(file)
    if compression:
        import pyarrow as pa

        return pa.CompressedInputStream(pa.OSFile(str(file)), compression)
    return file.open("rb", buffering=0)


def refuse_binary(file: Path, start: bytes) -> None:
    """Raise RecipeError if a file that should be text starts as a file of another kind."""
    for mark, what, hint in NO_TEXT:
        if start.startswith(mark):
            raise RecipeError("data.source", str(file), f"is {what}, not text", hint)


def strip_suffix(name: str) -> str:
    """Return a file's name in lower case without the ending of its compression."""
    name = name.lower()
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)
