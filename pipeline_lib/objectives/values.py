"""Interpret the values of a row by type: texts, names and lists. Any other value makes the row unusable.

| type | as a text | as a label or tag |
| --- | --- | --- |
| text | unchanged; only white space is not a text | stripped; only white space is no label |
| number | its decimal digits: 5, 2.5, 1.0 | the same, but a whole number has no point: 1.0 is 1 |
| true, false | unusable | `True`, `False`, as pandas writes them into CSV files |
| bytes | decoded as UTF-8 | the same |
| list of texts | joined by spaces | several labels, if the objective allows several |
| part `{"type": "text", "text": ...}` | its text; parts in a list are joined as texts are | unusable |
| anything else | unusable | unusable |
"""

import ast
import io
import json
import math
import tokenize
from collections.abc import Mapping
from decimal import Decimal
from itertools import pairwise
from numbers import Real
from typing import Any

NUMBERS = (Real, Decimal)
BLANK = "".join(filter(str.isspace, map(chr, range(0x3001)))) + "\u200b\u2060\ufeff"
"""White space, and what is as invisible around a name: zero-width spaces and byte order marks."""


def text_of(role: str, value: Any) -> str:
    """Return a non-empty text; raises ValueError with the reason if there is none."""
    text = " ".join(_text(role, item, True) for item in value) if is_list(value) else _text(role, value)
    if not text.strip():
        raise ValueError(f"empty {role}")
    return text


def _text(role: str, value: Any, in_list: bool = False) -> str:
    """Return the text of a single value or of a list item; empty for a missing value."""
    if is_missing(value):
        return ""
    if in_list and is_number(value):
        raise ValueError(f"{role} is a list of numbers, not text")
    if isinstance(value, Mapping) and isinstance(value.get("text"), str) and value.get("type", "text") == "text":
        return word_of(role, value["text"])
    return word_of(role, value)


def word_of(role: str, value: Any) -> str:
    """Return a word from a text (possibly blank), a number or bytes; raises ValueError for anything else."""
    if isinstance(value, str):
        return refuse_surrogates(role, value)
    if isinstance(value, bytes):
        return _decode_bytes(role, value)
    if is_number(value):
        return str(value)
    raise ValueError(f"{role} is {describe_type(value)}, not text")


def name_of(role: str, value: Any) -> str:
    """Return the name of a label or a tag, empty if missing; raises ValueError if the value is not a name.

    The numbers 1.0 and 1 are the same name, because JSON and Parquet write whole numbers differently. In text files,
    names are used as written.
    """
    if is_missing(value):
        return ""
    if is_bool(value):
        return "True" if value else "False"
    if is_number(value) and value == int(value):
        return str(int(value))
    if not isinstance(value, (str, bytes)) and not is_number(value):
        raise ValueError(f"{role} {format_value(value)} is not a name")
    return word_of(role, value).strip(BLANK)


def parse_list(role: str, value: Any) -> list[Any] | None:
    """Return the items of a list, or of a list written as text: `["a", "b"]` or `['a', 'b']`; otherwise None.

    Raises ValueError for NumPy's format without commas, `['a' 'b']`.
    """
    if is_list(value):
        return list(value)
    if not isinstance(value, str) or not (value.strip().startswith("[") and value.strip().endswith("]")):
        return None
    text = value.strip()
    try:
        found = json.loads(text)
    except ValueError:
        try:
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
        if _lacks_commas(text):
            raise ValueError(f"{role} {format_value(value)} is a list without commas") from None
    except RecursionError:
        return None
    return found if isinstance(found, list) else None


def parse_collection(role: str, value: Any) -> list[Any] | None:
    """Do the same as `parse_list`, also for sets, and for tuples and sets written as Python: `('a', 'b')`."""
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    if not isinstance(value, str) or value.strip()[:1] not in ("(", "{"):
        return parse_list(role, value)
    try:
        found = ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return sorted(found, key=str) if isinstance(found, (tuple, set)) else None


def to_key(value: Any) -> str:
    """Return a key for comparing values: the name of a label, otherwise JSON; empty if missing."""
    try:
        return name_of("", value)
    except ValueError:
        return json.dumps(value, default=str)


def is_missing(value: Any) -> bool:
    """Return whether a value is missing: None, or NaN, NA or NaT of pandas."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, NUMBERS) and value != value


def is_list(value: Any) -> bool:
    """Return whether a value is a list or a NumPy array, which pandas reads from Parquet."""
    return isinstance(value, (list, tuple)) or (hasattr(value, "tolist") and getattr(value, "ndim", 0) == 1)


def is_bool(value: Any) -> bool:
    """Return whether a value is a boolean, including NumPy's."""
    return isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number that fits into a float."""
    try:
        return isinstance(value, NUMBERS) and not is_bool(value) and math.isfinite(value)
    except OverflowError:
        return False


def describe_type(value: Any) -> str:
    """Describe the type of a value in words."""
    kinds = {"dict": "an object", "list": "a list", "tuple": "a list", "ndarray": "a list", "NoneType": "nothing"}
    return "true or false" if is_bool(value) else kinds.get(type(value).__name__, f"a {type(value).__name__}")


def format_value(value: Any) -> str:
    """Format a value for a message, with at most 40 characters."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def refuse_surrogates(role: str, value: str) -> str:
    """Return the text; raises ValueError for a lone surrogate, which JSON can contain."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{role} has a lone surrogate, which is not a character") from None
    return value


def _decode_bytes(role: str, value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{role} is not valid UTF-8 (byte 0x{value[error.start]:02x})") from None
    if "\0" in text:
        raise ValueError(f"{role} is bytes with a NUL")
    return text


def _lacks_commas(text: str) -> bool:
    """Return whether two string literals are adjacent, which Python would concatenate."""
    kinds = [token.type for token in tokenize.generate_tokens(io.StringIO(text.replace("\n", " ")).readline)]
    return any(one == other == tokenize.STRING for one, other in pairwise(kinds))
