"""Write standard JSON, which has no NaN and no infinity: undefined numbers become null."""

import json
import math
from typing import Any


def strict_json(value: Any, **options: Any) -> str:
    """Serialise a value like `json.dumps`, with null for numbers that are not finite."""
    return json.dumps(finite(value), allow_nan=False, **options)


def finite(value: Any) -> Any:
    """Return the value with None in place of numbers that are not finite."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
