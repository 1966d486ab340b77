"""Pins: ROOT/pins/NAME.json lists artifacts that must be kept because something outside the store needs them.

For example a registered model, which is served and audited long after the runs that produced it.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote, unquote

from pipeline_lib.errors import RecipeError
from pipeline_lib.store.durable import write_durably

NAMED = 16
"""Number of digits of the fingerprint in the name of an artifact's folder."""


def pin(root: Path, name: str, fingerprints: Iterable[str]) -> None:
    """Keep artifacts for as long as `name` needs them; replaces the previous pins of `name`."""
    listed = sorted(set(fingerprints))
    if wrong := [fingerprint for fingerprint in listed if not _is_fingerprint(fingerprint)]:
        raise ValueError(f"a pin needs fingerprints of at least {NAMED} digits, not {wrong}")
    path = _place(root, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, json.dumps(listed))


def unpin(root: Path, name: str) -> None:
    """Remove the pins of `name`, if there are any."""
    _place(root, name).unlink(missing_ok=True)


def pins(root: Path) -> dict[str, tuple[str, ...]]:
    """Map the names of artifact folders to who pinned them; raises RecipeError for an unreadable pin."""
    needed: dict[str, tuple[str, ...]] = {}
    for path in sorted((root / "pins").glob("*.json")):
        for fingerprint in _read_pins(path):
            needed[fingerprint[:NAMED]] = (*needed.get(fingerprint[:NAMED], ()), unquote(path.stem))
    return needed


def _read_pins(path: Path) -> list[str]:
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:  # unpinned just now
        return []
    except (OSError, ValueError):
        listed = None
    if not isinstance(listed, list) or not all(map(_is_fingerprint, listed)):
        raise RecipeError("pins", path.name, "is not a list of fingerprints", "Pin it again, or remove that file")
    return listed


def _is_fingerprint(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(f"[0-9a-f]{{{NAMED},64}}", value) is not None


def _place(root: Path, name: str) -> Path:
    """Return the file of a pin; the name is quoted so that it cannot leave the folder."""
    if not name:
        raise ValueError("a pin needs a name")
    return root / "pins" / f"{quote(name, safe='')}.json"
