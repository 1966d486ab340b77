"""Check values of rows that come from a request or a DataFrame, which no file format has checked."""

import re
from collections.abc import Mapping
from typing import Any

LONE = re.compile("[\ud800-\udfff]")
DEEPEST = 50
"""Maximum nesting of lists and objects; a message with tool calls needs about ten."""
MISSING = ("NAType", "NaTType")
"""Types of pandas' values that stand for none."""


def check_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with None for pandas' missing values.

    Raises:
        ValueError: A value is nested too deeply, or has a character that is none.
    """
    checked = {role: None if type(value).__name__ in MISSING else value for role, value in row.items()}
    for role, value in checked.items():
        _refuse(role, value)
    return checked


def _refuse(role: str, value: Any) -> None:
    waiting = [(value, 0)]
    while waiting:
        part, depth = waiting.pop()
        if depth > DEEPEST:
            raise ValueError(f"{role} has lists and objects more than {DEEPEST} deep")
        if isinstance(part, str) and LONE.search(part):
            raise ValueError(f"{role} has a lone surrogate, which is not a character")
        if isinstance(part, Mapping):
            waiting += [(item, depth + 1) for pair in part.items() for item in pair]
        elif isinstance(part, (list, tuple)):
            waiting += [(item, depth + 1) for item in part]
