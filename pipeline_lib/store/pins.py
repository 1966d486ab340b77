"""Pins: ROOT/pins/NAME.json lists the artifacts that must stay because something outside the store needs them.

A registered model is such a thing: its version is served and audited long after the runs that led to it.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote, unquote

from pipeline_lib.errors import RecipeError
from pipeline_lib.store.durable import write_durably

NAMED = 16
"""Digits of a fingerprint that name an artifact's folder."""


def pin(root: Path, name: str, fingerprints: Iterable[str]) -> None:
    """Keep artifacts for as long as `name` needs them; what it needed before is forgotten."""
    listed = sorted(set(fingerprints))
    if wrong := [fingerprint for fingerprint in listed if not _is_fingerprint(fingerprint)]:
        raise ValueError(f"a pin needs fingerprints of at least {NAMED} digits, not {wrong}")
    path = _place(root, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, json.dumps(listed))


def unpin(root: Path, name: str) -> None:
    """Forget what `name` needs; a name that pins nothing is not a mistake."""
    _place(root, name).unlink(missing_ok=True)


def pins(root: Path) -> dict[str, tuple[str, ...]]:
    """Who needs an artifact, by the name of its folder; raises RecipeError for a pin that cannot be understood."""
    needed: dict[str, tuple[str, ...]] = {}
    for path in sorted((root / "pins").glob("*.json")):
        for fingerprint in _listed(path):
            needed[fingerprint[:NAMED]] = (*needed.get(fingerprint[:NAMED], ()), unquote(path.stem))
    return needed


def _listed(path: Path) -> list[str]:
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
    """Quoted, so that no name leads out of the folder."""
    if not name:
        raise ValueError("a pin needs a name")
    return root / "pins" / f"{quote(name, safe='')}.json"
