"""List the artifacts of a store with size, age and pins, and verify that their bytes are unchanged.

Imports no heavy library. `garbage_collection.py` frees space.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from pipeline_lib.errors import RecipeError
from pipeline_lib.store.integrity import DAMAGE, Damage, describe_damage, set_aside
from pipeline_lib.store.manifests import MANIFEST, read_manifest
from pipeline_lib.store.pins import NAMED, pin, pins, unpin
from pipeline_lib.store.store import hold_if_free, verify_artifact

__all__ = [
    "DamagedFile",
    "Entry",
    "find",
    "find_unfinished",
    "list_artifacts",
    "pin",
    "pins",
    "try_lock",
    "unpin",
    "verify",
]


@dataclass(frozen=True)
class Entry:
    """An artifact, without a manifest if that is broken, or the work folder of an unfinished step."""

    step: str
    fingerprint: str
    folder: Path
    size: int
    used: float
    manifest: Mapping[str, Any] | None = None
    pins: tuple[str, ...] = ()

    @property
    def short(self) -> str:
        """The abbreviated fingerprint."""
        return self.fingerprint[:8]


@dataclass(frozen=True)
class DamagedFile:
    """What changed in an artifact, and where it was moved; None if another process is using it."""

    what: str
    aside: Path | None


def list_artifacts(root: Path, step: str | None = None) -> list[Entry]:
    """Return all artifacts of a store or of one step; raises RecipeError for a step without artifacts."""
    held = pins(root)
    found = [entry for folder in _folders(root / "steps", "*/*", NAMED) if (entry := _entry(folder, held))]
    chosen = [entry for entry in found if step in (None, entry.step)]
    if step is not None and not chosen:
        steps = ", ".join(sorted({entry.step for entry in found})) or "no step"
        raise RecipeError("--step", step, "has no artifacts in this store", f"The store has artifacts of {steps}")
    return chosen


def find_unfinished(root: Path) -> list[Entry]:
    """Return the work folders of unfinished steps, which they can resume from."""
    found = _folders(root / "work", "*", 64)
    return [Entry("unfinished", folder.name, folder, size_of(folder), last_used(folder)) for folder in found]


def find(root: Path, prefix: str) -> Entry:
    """Find the artifact whose fingerprint has this prefix; raises RecipeError for none or several."""
    found = [entry for entry in list_artifacts(root) if prefix and entry.fingerprint.startswith(prefix.lower())]
    if not found:
        raise RecipeError("FINGERPRINT", prefix, "matches no artifact", "`tunesmith cache ls` lists them")
    if len(found) > 1:
        several = ", ".join(f"{entry.fingerprint[:NAMED]} ({entry.step})" for entry in found[:5])
        raise RecipeError("FINGERPRINT", prefix, f"{len(found)} artifacts match: {several}", "Give more of its digits")
    return found[0]


def verify(root: Path, step: str | None = None) -> Iterator[tuple[Entry, DamagedFile | None]]:
    """Hash every artifact again and yield the result; a damaged one is set aside."""
    for entry in list_artifacts(root, step):
        yield entry, _verify_entry(root, entry)


def size_of(folder: Path) -> int:
    """Return the bytes of a file or of all files below a folder; 0 if it does not exist."""
    return sum(status.st_size for status in _files(folder))


def last_used(folder: Path) -> float:
    """Return when an artifact was last used: the store touches its manifest. Without one, the newest file counts."""
    if (manifest := folder / MANIFEST).is_file():
        return manifest.stat().st_mtime
    return max([folder.stat().st_mtime, *(status.st_mtime for status in _files(folder))])


@contextmanager
def try_lock(root: Path, fingerprint: str) -> Iterator[bool]:
    """Try to lock an artifact; yields whether no other process is creating or reading it."""
    folder = root / "locks"
    folder.mkdir(exist_ok=True)
    path = folder / f"{fingerprint}.lock"
    if len(fingerprint) == NAMED:  # a broken manifest: only the folder's name is known
        path = next(folder.glob(f"{fingerprint}*.lock"), path)
    with hold_if_free(FileLock(path)) as held:
        yield held


def _folders(place: Path, pattern: str, digits: int) -> list[Path]:
    """Return only folders named like artifacts, as the root may contain other files too."""
    named = sorted(path for path in place.glob(pattern) if re.fullmatch(f"[0-9a-f]{{{digits}}}", path.name))
    return [path for path in named if path.is_dir() and not path.is_symlink()]


def _entry(folder: Path, held: Mapping[str, tuple[str, ...]]) -> Entry | None:
    try:
        manifest, used = None, last_used(folder)
        manifest = read_manifest(folder)
    except FileNotFoundError:  # another process has just removed it
        return None
    except Damage:
        pass
    name = manifest["fingerprint"] if manifest else folder.name
    return Entry(folder.parent.name, name, folder, size_of(folder), used, manifest, held.get(folder.name, ()))


def _verify_entry(root: Path, entry: Entry) -> DamagedFile | None:
    with describe_damage(root, every=True, field="--store"):
        if (what := _damage(entry)) is None:
            return None
        with try_lock(root, entry.folder.name) as mine:
            if not entry.folder.exists():  # another process has set it aside or removed it meanwhile
                return None
            return DamagedFile(what, set_aside(root, entry.folder) if mine else None)


def _damage(entry: Entry) -> str | None:
    try:
        manifest = verify_artifact(entry.folder)
    except DAMAGE as damage:
        return str(damage)
    moved = manifest["fingerprint"][:NAMED] != entry.folder.name or manifest["identity"]["step"] != entry.step
    return "its manifest belongs to another step" if moved else None


def _files(folder: Path) -> Iterator[os.stat_result]:
    below = (Path(place, name) for place, _, names in os.walk(folder) for name in names)
    for path in below if folder.is_dir() else [folder]:
        with suppress(FileNotFoundError):  # another process removes it
            yield path.lstat()
