"""Read text files in any encoding, plain or compressed; undecodable bytes make a row unusable, not the file."""

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
    (codecs.BOM_UTF32_LE, "utf-32"),  # must precede UTF-16, whose mark is a prefix of this one
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
SAMPLE = 1024
"""Number of bytes used to detect UTF-16 without a byte order mark."""
FIRST_BYTE = 0xDC00
"""An undecodable byte b becomes the surrogate FIRST_BYTE + b. Like `surrogateescape`, but for all 256 byte values."""


def _replace_with_surrogates(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(FIRST_BYTE + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error("tunesmith_surrogates", _replace_with_surrogates)


def _check_encoding(encoding: str) -> str:
    try:
        codecs.decode(b"", encoding, "strict").encode()
    except (LookupError, AttributeError, TypeError, ValueError):
        raise ValueError(
            f"unknown encoding {encoding!r}; use for example utf-8, utf-16, latin-1, cp1252 or gb18030"
        ) from None
    return encoding


class TextSource(FileSource):
    """Text files on disk."""

    encoding: Annotated[str, AfterValidator(_check_encoding)] = "utf-8"
    """Text encoding, such as latin-1, cp1252 or gb18030; UTF-16 and byte order marks are detected."""

    def lines(self, file: Path) -> Iterator[str]:
        """Yield the lines of a file with their line ends.

        Raises:
            RecipeError: The file is damaged or cannot be read.
        """
        with file.open("rb") as raw:
            start = raw.read(4)
        compression = "gzip" if start.startswith(GZIP) else "zstd" if start.startswith(ZSTD) else None
        with _open(file, compression) as raw:
            try:
                buffered = io.BufferedReader(raw)
                encoding = _detect_encoding(buffered.peek(SAMPLE)[:SAMPLE], self.encoding)
                # Only "\n" ends a line: a lone "\r" inside a text must not shift one of two aligned files.
                yield from io.TextIOWrapper(buffered, encoding, "tunesmith_surrogates", newline="\n")
            except (EOFError, OSError, ValueError, zlib.error) as error:  # ValueError: Arrow's zstd, unusual encodings
                hint = "Download or compress the file again"
                problem = f"damaged {compression} ({error})" if compression else f"cannot be read ({error})"
                raise RecipeError("data.source", str(file), problem, hint) from error


def _open(file: Path, compression: str | None) -> Any:
    """Open the decompressed bytes of a file."""
    if compression == "gzip":
        return gzip.open(file)
    if compression == "zstd":
        import pyarrow as pa

        return pa.CompressedInputStream(pa.OSFile(str(file)), "zstd")
    return file.open("rb", buffering=0)


def _detect_encoding(start: bytes, encoding: str) -> str:
    """Return the encoding of a file from its first bytes; an encoding other than UTF-8 in the recipe always wins."""
    if codecs.lookup(encoding).name not in ("utf-8", "utf-8-sig"):
        return encoding
    for mark, name in MARKS:
        if start.startswith(mark):
            return name
    # In UTF-16 the high byte of most Western characters is 0: the second byte if little-endian, else the first.
    even, odd = start[::2].count(0), start[1::2].count(0)
    if odd > len(start) / 4 and not even:
        return "utf-16-le"
    if even > len(start) / 4 and not odd:
        return "utf-16-be"
    return "utf-8"


def flaw(text: str) -> str | None:
    """Return why a text is unusable (NUL, undecodable byte, lone surrogate), or None if it is valid."""
    if "\0" in text:
        return "a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        byte = ord(text[error.start]) - FIRST_BYTE
        if 0 <= byte < 256:
            return f"the byte 0x{byte:02x} cannot be decoded (set data.source.encoding, such as cp1252)"
        return "a lone surrogate, which is not a character"
    return None
