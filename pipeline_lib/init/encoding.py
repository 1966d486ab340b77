"""Guess the encoding of text files that are not UTF-8."""

from functools import cache
from pathlib import Path

from charset_normalizer import from_bytes

from pipeline_lib.data.sources.byte_encoding import detect_encoding
from pipeline_lib.data.sources.compression import DAMAGED, START, find_compression, open_file
from pipeline_lib.data.sources.text import Text

SAMPLE = 2**20
"""Bytes of a file that are looked at."""
SHOWN = 20_000
"""Bytes of foreign lines that the guess is made from."""
CANDIDATES = ("cp1252", "gb18030", "big5", "cp932", "euc_jp", "cp949", "cp1251", "cp1250", "cp1253", "cp1254")
"""Encodings that text files are still written in."""
CHAOS = 0.3
"""Disorder up to which charset-normalizer takes a decoded text for a text."""


def text_source(file: Path) -> Text:
    """Return a source that reads the lines of a file in its encoding."""
    return Text(kind="text", train=str(file), encoding=find_encoding(file) or "utf-8")


def find_encoding(file: Path) -> str | None:
    """Return the encoding of most lines with other letters than ASCII; None if it is UTF-8, or detected by a run."""
    state = file.stat()
    return _find_encoding(file.absolute(), state.st_size, state.st_mtime_ns)


@cache
def _find_encoding(file: Path, size: int, changed: int) -> str | None:
    start = _read_start(file)
    if detect_encoding(start, "utf-8") != "utf-8":
        return None
    foreign: list[bytes] = []
    valid = 0
    for line in start.splitlines()[:-1] or [start]:
        if line.isascii():
            continue
        try:
            line.decode()
            valid += 1
        except UnicodeDecodeError:
            foreign.append(line)
    return _guess(b"\n".join(foreign)[:SHOWN]) if len(foreign) > valid else None


def _guess(text: bytes) -> str | None:
    found = from_bytes(text, cp_isolation=list(CANDIDATES), threshold=CHAOS)
    best = found.best()
    if best is None:
        return None
    possible = {name for match in found for name in match.could_be_from_charset}
    # Western and Central European letters look alike to it; Western files are far more common
    return "cp1252" if best.encoding == "cp1250" and "cp1252" in possible else best.encoding


def is_ascii(file: Path) -> bool:
    """Whether a file's text is the same in UTF-8 and in the encodings that are guessed."""
    return _read_start(file).isascii()


def find_foreign_word(file: Path) -> str:
    """Return the first word with other letters than ASCII, as it is read."""
    for line in text_source(file).lines(file):
        if foreign := next((word for word in line.split() if not word.isascii()), None):
            return foreign[:40]
    return ""


def _read_start(file: Path) -> bytes:
    with file.open("rb") as raw:
        compression = find_compression(raw.read(START))
    try:
        with open_file(file, compression) as opened:
            return bytes(opened.read(SAMPLE))
    except DAMAGED:
        return b""  # the source that reads the file names the damage
