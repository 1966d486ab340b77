"""Check values of rows that come from a request or a DataFrame, which no file format has checked."""

from collections.abc import Mapping
from typing import Any

from pipeline_lib.objectives.values import refuse_surrogates

DEEPEST = 50
"""Maximum nesting of lists and objects; a message with tool calls needs about ten."""


def check_row(row: Mapping[str, Any]) -> None:
    """Raise ValueError if a value of a row is nested too deeply, or has half of a character."""
    for role, value in row.items():
        _check_value(role, value)


def _check_value(role: str, value: Any) -> None:
    waiting = [(value, 0)]
    while waiting:
        part, depth = waiting.pop()
        if depth > DEEPEST:
            raise ValueError(f"{role} has lists or objects nested more than {DEEPEST} deep")
        if isinstance(part, str):
            refuse_surrogates(role, part)
        elif isinstance(part, Mapping):
            waiting += [(item, depth + 1) for pair in part.items() for item in pair]
        elif isinstance(part, (list, tuple)):
            waiting += [(item, depth + 1) for item in part]
