"""Text files: plain, gzip or zstd, in any encoding. Bytes that cannot be decoded spoil their line, not the file."""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from pipeline_lib.data.sources.base import FileSource
from pipeline_lib.errors import RecipeError

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as UTF-16's does, so it stands before it
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
SAMPLE = 1024
"""Bytes that are looked at to tell UTF-16 without a mark."""
FIRST_BYTE = 0xDC00
"""Bytes that cannot be decoded become surrogates from here on, as Python's `surrogateescape` has it for some bytes."""


def _to_surrogates(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(FIRST_BYTE + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error("tunesmith_surrogates", _to_surrogates)


def _known(encoding: str) -> str:
    try:
        codecs.decode(b"", encoding, "strict").encode()
    except (LookupError, AttributeError, TypeError, ValueError):
        raise ValueError(
            f"{encoding!r} is not an encoding; there are utf-8, utf-16, latin-1, cp1252, gb18030…"
        ) from None
    return encoding


class TextSource(FileSource):
    """Text files on disk."""

    encoding: Annotated[str, AfterValidator(_known)] = "utf-8"
    """How the bytes spell text, such as latin-1, cp1252 or gb18030; UTF-16 and byte order marks are seen by
    themselves."""

    def lines(self, file: Path) -> Iterator[str]:
        """The lines of a file with their ends; a damaged file is a RecipeError that names it."""
        with file.open("rb") as raw:
            begin = raw.read(4)
        packed = "gzip" if begin.startswith(GZIP) else "zstd" if begin.startswith(ZSTD) else None
        with _open(file, packed) as raw:
            try:
                buffered = io.BufferedReader(raw)
                encoding = _told(buffered.peek(SAMPLE)[:SAMPLE], self.encoding)
                # Only "\n" ends a line: a lone "\r" inside a text must not shift one of two aligned files.
                yield from io.TextIOWrapper(buffered, encoding, "tunesmith_surrogates", newline="\n")
            except (EOFError, OSError, ValueError, zlib.error) as error:  # ValueError: Arrow's zstd, odd encodings
                hint = "Fetch or compress the file again"
                problem = f"damaged {packed} ({error})" if packed else f"cannot be read ({error})"
                raise RecipeError("data.source", str(file), problem, hint) from error


def _open(file: Path, packed: str | None) -> Any:
    """The bytes of a file as they were before they were packed."""
    if packed == "gzip":
        return gzip.open(file)
    if packed == "zstd":
        import pyarrow as pa

        return pa.CompressedInputStream(pa.OSFile(str(file)), "zstd")
    return file.open("rb", buffering=0)


def _told(begin: bytes, encoding: str) -> str:
    """The encoding of a file that begins so; one that is not UTF-8 is as the recipe has it."""
    if codecs.lookup(encoding).name not in ("utf-8", "utf-8-sig"):
        return encoding
    for mark, name in MARKS:
        if begin.startswith(mark):
            return name
    even, odd = begin[::2].count(0), begin[1::2].count(0)
    if odd > len(begin) / 4 and not even:
        return "utf-16-le"
    if even > len(begin) / 4 and not odd:
        return "utf-16-be"
    return "utf-8"


def flaw(text: str) -> str | None:
    """Why a text is unusable: a NUL, undecodable bytes, half a pair from a JSON escape; None where it is sound."""
    if "\0" in text:
        return "a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        byte = ord(text[error.start]) - FIRST_BYTE
        if 0 <= byte < 256:
            return f"the byte 0x{byte:02x} cannot be decoded (set data.source.encoding, such as cp1252)"
        return "half a surrogate pair, which is not a character"
    return None
