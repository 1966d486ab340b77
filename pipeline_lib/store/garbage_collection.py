"""Free space in a store: remove the least recently used artifacts first, and keep those that are needed or in use.

Each artifact is locked, moved away with one rename and then deleted, so that no process reads a partly deleted one.
"""

import json
import os
import re
import shutil
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pipeline_lib.store.digests import content_digest
from pipeline_lib.store.inventory import Entry, find_unfinished, last_used, list_artifacts, size_of, try_lock
from pipeline_lib.store.pins import NAMED, pins
from pipeline_lib.util.temporary import find_left_folders

DAY = 86400.0
MADE = re.compile("([0-9a-f]{64})-")
"""Matches the name of the folder in which a step is being created, which begins with its fingerprint."""


@dataclass
class Collected:
    """What was removed, what was due but kept and why, and the bytes freed and left."""

    removed: list[Entry] = field(default_factory=list)
    retained: list[tuple[Entry, str]] = field(default_factory=list)
    temporary: list[Path] = field(default_factory=list)
    """Temporary folders of killed processes, outside of the store."""
    freed: int = 0
    left: int = 0


def collect(
    root: Path,
    older_than: float | None = None,
    keep_size: int | None = None,
    damaged: bool = False,
    dry_run: bool = False,
) -> Collected:
    """Remove artifacts from a store; leftovers of killed processes, also in $TMPDIR, are always removed.

    Args:
        root: Folder of the store.
        older_than: Remove what was not used for this many seconds.
        keep_size: Then remove the least recently used until this many bytes are left.
        damaged: Also remove damaged artifacts that were set aside.
        dry_run: Remove nothing; report what would be removed.
    """
    now, known = time.time(), list_artifacts(root)
    collected = Collected(left=sum(size_of(root / part) for part in ("steps", "work", "partial", "damaged")))
    needed = _inputs_of_unfinished_steps(root, known)
    for path in [*_find_left_over(root, now), *(_set_aside(root) if damaged else ())]:
        _count(collected, size_of(path))
        _delete(path, dry_run)
    for path in find_left_folders():
        collected.temporary.append(path)
        collected.freed += size_of(path)
        _delete(path, dry_run)
    for entry in sorted([*known, *find_unfinished(root)], key=lambda entry: entry.used):
        aged = older_than is not None and now - entry.used >= older_than
        if not aged and (keep_size is None or collected.left <= keep_size):
            continue
        if why := "an unfinished step reads it" if entry.folder in needed else _remove(root, entry, dry_run):
            collected.retained.append((entry, why))
        else:
            collected.removed.append(entry)
            _count(collected, entry.size)
    return collected


def _remove(root: Path, entry: Entry, dry_run: bool) -> str | None:
    """Remove an artifact and return None, or return why it is kept.

    Pins and the time of last use are checked again under its lock, since other processes may have used it meanwhile.
    """
    if needed := pins(root).get(entry.fingerprint[:NAMED]):
        return f"pinned by {', '.join(needed)}"
    with try_lock(root, entry.fingerprint) as mine:
        if not mine:
            return "in use"
        if not entry.folder.exists():
            return "gone already"
        if last_used(entry.folder) != entry.used:
            return "used just now"
        if dry_run:
            return None
        aside = root / "partial" / f"removed-{uuid.uuid4().hex}"
        aside.parent.mkdir(exist_ok=True)
        os.rename(entry.folder, aside)
    _delete(aside, dry_run)
    return None


def _inputs_of_unfinished_steps(root: Path, known: Iterable[Entry]) -> set[Path]:
    """Return the artifacts that a step being created may read: its inputs and, recursively, their inputs."""
    inputs: dict[str, dict[Path, set[str]]] = defaultdict(dict)  # several artifacts may have one content
    for entry in known:
        if entry.manifest:
            read = set(entry.manifest["identity"]["inputs"].values())
            inputs[content_digest(entry.manifest["files"])][entry.folder] = read
    wanted, found = set(_inputs_in_use(root)), set[Path]()
    while wanted:
        for folder, read in inputs.pop(wanted.pop(), {}).items():
            found.add(folder)
            wanted |= read
    return found


def _inputs_in_use(root: Path) -> Iterator[str]:
    for note in (root / "partial").glob("*.json"):
        if MADE.match(note.name) and not _is_left_over(root, note, time.time()):
            try:
                yield from json.loads(note.read_text(encoding="utf-8"))["inputs"].values()
            except (FileNotFoundError, ValueError):  # just published, or just started
                continue


def _find_left_over(root: Path, now: float) -> list[Path]:
    return [path for path in sorted((root / "partial").glob("*")) if _is_left_over(root, path, now)]


def _is_left_over(root: Path, path: Path, now: float) -> bool:
    """Return whether a killed process left this path behind: no process holds the lock of its step."""
    if path.name.startswith("removed-"):
        return True
    if match := MADE.match(path.name):
        with try_lock(root, match[1]) as mine:
            return mine
    return now - path.lstat().st_mtime > DAY and not _anyone_holds_a_lock(root)


def _anyone_holds_a_lock(root: Path) -> bool:
    for path in (root / "locks").glob("*.lock"):
        with try_lock(root, path.stem) as mine:
            if not mine:
                return True
    return False


def _set_aside(root: Path) -> list[Path]:
    return [path for path in (root / "damaged").glob("*") if re.search("-[0-9a-f]{16}-[0-9a-f]{8}$", path.name)]


def _count(collected: Collected, size: int) -> None:
    collected.freed += size
    collected.left -= size


def _delete(path: Path, dry_run: bool) -> None:
    if dry_run:
        return
    if path.is_dir() and not path.is_symlink():
        with suppress(FileNotFoundError):  # another process is removing it too
            shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
