"""Detect UTF-16 and UTF-32 by a byte order mark or by the first bytes."""

import codecs
import unicodedata

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # must precede UTF-16, whose mark is a prefix of this one
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
NO_CHARACTERS = ("Cc", "Cn", "Co", "Cs")
"""Unicode categories that a text decoded in the wrong byte order has: controls, unassigned, private, surrogates."""


def detect_encoding(start: bytes, encoding: str) -> str:
    """Return the encoding of a file from its first bytes; an encoding other than UTF-8 in the recipe always wins."""
    if codecs.lookup(encoding).name not in ("utf-8", "utf-8-sig"):
        return encoding
    for mark, name in MARKS:
        if start.startswith(mark):
            return name
    if 0 not in start:  # as text in UTF-8
        return "utf-8"
    counts = {name: _count_ascii(start, name) for name in WIDE}
    best = max(counts, key=counts.__getitem__)
    return best if counts[best] else "utf-8"


def _count_ascii(start: bytes, encoding: str) -> int:
    """Count the ASCII characters, such as line feeds and spaces, of bytes decoded; 0 if this is not their encoding."""
    text = _decode(start, encoding) or ""
    if any(unicodedata.category(letter) in NO_CHARACTERS and not letter.isspace() for letter in text):
        return 0
    # Zero bytes may also be damage. In Western text every other byte is one; in other scripts those of line feeds are.
    if start.count(0) <= len(start) / 4 and text.count("\n") * 2 <= start.count(b"\n"):
        return 0
    return sum(letter.isascii() for letter in text)


def _decode(start: bytes, encoding: str) -> str | None:
    """Decode bytes that may end within a character; None if they are invalid."""
    try:
        return codecs.getincrementaldecoder(encoding)("strict").decode(start)
    except UnicodeDecodeError:
        return None
