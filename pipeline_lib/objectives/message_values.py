"""What the fields of a message mean: who speaks, and what is said."""

import json
from collections.abc import Mapping
from typing import Any

from pipeline_lib.objectives.values import describe_type, is_list, is_missing, parse_list, word_of

SPEAKER = ("role", "from", "speaker", "author")
ROLES = {
    "user": "human prompter customer",
    "assistant": "gpt chatgpt gpt-3.5 gpt-4 bot chatbot model ai agent bing bard claude function_call",
    "tool": "function observation function_response tool_response",
    "system": "",
}
"""Role names in ShareGPT and similar formats; other names are used unchanged."""
NAMES = {name: role for role, names in ROLES.items() for name in (role, *names.split())}
TEXT_PARTS = ("text", "input_text", "output_text")


def role_of(message: Any) -> str:
    """Return the role of a message as chat templates name it; empty if the message has none."""
    if not isinstance(message, Mapping):
        return ""
    names = (message.get(field) for field in SPEAKER)
    name = next((name for name in names if isinstance(name, str) and name.strip()), "")
    return NAMES.get(name.strip().casefold(), name)


def content_of(role: str, value: Any) -> str | None:
    """Return content as one text, with the parts of a list joined; None if it is missing.

    Raises ValueError if it is not text. The reply of a tool may be an object, which is written as JSON.
    """
    if is_missing(value):
        return None
    if not is_list(value):
        return _text(role, value)
    if all(isinstance(part, str) for part in value):
        return " ".join(_text(role, part) for part in value)
    return "".join(_text(role, part) for part in value)


def _text(role: str, value: Any) -> str:
    if not isinstance(value, Mapping):
        return word_of(role, value)
    text = value.get("text")
    if value.get("type", "text") in TEXT_PARTS and isinstance(text, str):
        return word_of(role, text)
    if role == "tool":
        return json.dumps(value, ensure_ascii=False)
    if "type" in value:
        raise ValueError(f"a message has a part of the type {value['type']!r}, but only text is supported")
    raise ValueError(f"{role} is {describe_type(value)}, not text")


def parse(role: str, value: Any) -> Any:
    """Parse a list or an object written as JSON or Python; return any other value unchanged."""
    found = parse_list(role, value) if isinstance(value, str) else None
    return parse_object(role, value) if found is None else found


def parse_object(role: str, value: Any) -> Any:
    """Parse an object written as text; return any other value unchanged."""
    if not isinstance(value, str) or not value.lstrip().startswith("{"):
        return value
    found = parse_list(role, f"[{value}]")
    return found[0] if found and len(found) == 1 else value


def drop_nulls(value: Any) -> Any:
    """Without the null fields that a Parquet file gives every object."""
    if isinstance(value, Mapping):
        return {name: drop_nulls(part) for name, part in value.items() if part is not None}
    return [drop_nulls(part) for part in value] if is_list(value) else value
