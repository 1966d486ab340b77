"""What a value of a row means, by its type: texts, names and lists. What has no meaning makes the row unusable.

| type | as a text | as a label or tag |
| --- | --- | --- |
| text | as it is; nothing but white space is not a text | without the white space around it; else no label |
| number | its decimal digits: 5, 2.5, 1.0 | the same, but a whole number has no point: 1.0 is 1 |
| true, false | unusable | `True`, `False`, as pandas writes them into CSV files |
| bytes | decoded as UTF-8 | the same |
| list of texts | joined by spaces | several labels, where the objective has several |
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
    """A text that is not empty; raises ValueError with the reason where there is none."""
    text = " ".join(_text(role, item, True) for item in value) if is_list(value) else _text(role, value)
    if not text.strip():
        raise ValueError(f"empty {role}")
    return text


def _text(role: str, value: Any, in_list: bool = False) -> str:
    """A text from a single value or an item of a list; empty for no value."""
    if is_missing(value):
        return ""
    if in_list and is_number(value):
        raise ValueError(f"{role} is a list of numbers, no text")
    if isinstance(value, Mapping) and isinstance(value.get("text"), str) and value.get("type", "text") == "text":
        return word_of(role, value["text"])
    return word_of(role, value)


def word_of(role: str, value: Any) -> str:
    """A word of a sentence: a text, which may be blank, a number or bytes; raises ValueError for anything else."""
    if isinstance(value, str):
        return refuse_surrogates(role, value)
    if isinstance(value, bytes):
        return _decode_bytes(role, value)
    if is_number(value):
        return str(value)
    raise ValueError(f"{role} is {describe_type(value)}, no text")


def name_of(role: str, value: Any) -> str:
    """The name of a label or a tag, empty where there is none; raises ValueError where the value is not a name.

    1.0 and 1 are one name: JSON and Parquet spell a whole number differently. In text files each is as it is spelled.
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
    """The items of a list, also of one that is spelled as text, such as `["a", "b"]` or `['a', 'b']`; else None.

    Raises ValueError for NumPy's spelling, `['a' 'b']`, in which commas are lost.
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
    """As `parse_list`, also of a set, and of a tuple or set that is spelled as text in Python: `('a', 'b')`."""
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
    """A value that rows are told apart by: a name where it is one, else JSON; empty where there is none."""
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
    """Whether a value is a list, also one of NumPy, which pandas reads from Parquet."""
    return isinstance(value, (list, tuple)) or (hasattr(value, "tolist") and getattr(value, "ndim", 0) == 1)


def is_bool(value: Any) -> bool:
    """Whether a value is true or false, also one of NumPy."""
    return isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, of a size that a float can have."""
    try:
        return isinstance(value, NUMBERS) and not is_bool(value) and math.isfinite(value)
    except OverflowError:
        return False


def describe_type(value: Any) -> str:
    """A value's type as people call it."""
    kinds = {"dict": "an object", "list": "a list", "tuple": "a list", "ndarray": "a list", "NoneType": "nothing"}
    return "true or false" if is_bool(value) else kinds.get(type(value).__name__, f"a {type(value).__name__}")


def format_value(value: Any) -> str:
    """Format a value for a message, with at most 40 characters."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def refuse_surrogates(role: str, value: str) -> str:
    """The text; raises ValueError where it has half of a character, as JSON in a text can."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{role} has a lone surrogate, which is not a character") from None
    return value


def _decode_bytes(role: str, value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{role} is bytes that are no UTF-8 (byte 0x{value[error.start]:02x})") from None
    if "\0" in text:
        raise ValueError(f"{role} is bytes with a NUL")
    return text


def _lacks_commas(text: str) -> bool:
    """Whether two texts stand side by side, which Python would join."""
    kinds = [token.type for token in tokenize.generate_tokens(io.StringIO(text.replace("\n", " ")).readline)]
    return any(one == other == tokenize.STRING for one, other in pairwise(kinds))
