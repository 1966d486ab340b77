"""Read text files in any encoding, plain or compressed; undecodable bytes make a row unusable, not the file."""

import codecs
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from pipeline_lib.data.sources.base import FileSource
from pipeline_lib.data.sources.byte_encoding import detect_encoding
from pipeline_lib.data.sources.compression import DAMAGED, START, find_compression, open_file, refuse_binary
from pipeline_lib.errors import RecipeError

SAMPLE = 2**12
"""Number of bytes used to detect an encoding without a byte order mark."""
BUFFER = 2**16
"""Number of bytes without any line feed after which carriage returns end the lines."""
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
        try:
            with file.open("rb") as raw:
                start = raw.read(START)
        except OSError as error:
            problem = f"cannot be read ({error.strerror})"
            raise RecipeError("data.source", str(file), problem, "Check its permissions") from error
        refuse_binary(file, start)
        compression = find_compression(start)
        try:
            with open_file(file, compression) as raw:
                buffered = io.BufferedReader(raw, BUFFER)
                begin = buffered.peek(BUFFER)
                encoding = detect_encoding(begin[:SAMPLE], self.encoding)
                # Only "\n" ends a line: a lone "\r" inside a text must not shift one of two aligned files. A file
                # without any "\n" is from an old Mac.
                newline = "\r" if b"\r" in begin and b"\n" not in begin else "\n"
                yield from io.TextIOWrapper(buffered, encoding, "tunesmith_surrogates", newline=newline)
        except DAMAGED as error:
            hint = "Download or compress the file again"
            problem = f"damaged {compression} ({error})" if compression else f"cannot be read ({error})"
            raise RecipeError("data.source", str(file), problem, hint) from error


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
