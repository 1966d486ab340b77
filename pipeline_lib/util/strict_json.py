"""JSON that every program can read: it has no NaN and no infinity, so what is undefined is null."""

import json
import math
from typing import Any


def strict_json(value: Any, **options: Any) -> str:
    """Serialise a value as `json.dumps` does, with null for numbers that are not finite."""
    return json.dumps(finite(value), allow_nan=False, **options)


def finite(value: Any) -> Any:
    """The same value, with None in place of numbers that are not finite."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
