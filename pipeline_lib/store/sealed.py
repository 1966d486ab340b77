"""JSON with its own SHA-256, so that damage is detected when it is read."""

import json
from collections.abc import Mapping
from typing import Any

from pipeline_lib.store.digests import value_digest
from pipeline_lib.store.integrity import Damage

SEAL = "sha256"


def seal(value: Mapping[str, Any]) -> str:
    """Serialise an object on one line, with the digest of its members as the last member."""
    return json.dumps({**value, SEAL: value_digest(value)}, ensure_ascii=False)


def unseal(text: str | bytes) -> dict[str, Any]:
    """Return the object without its digest.

    Raises:
        Damage: The text is not what `seal` returned.
    """
    try:
        value = json.loads(text)
        matches = value.pop(SEAL) == value_digest(value)
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError):
        raise Damage("it is not JSON with a digest") from None
    if not matches:
        raise Damage("it does not match its digest")
    return value
