"""What bytes are told by: SHA-256 of files, of folders, and of plain values."""

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline_lib.store.integrity import regular_files
from pipeline_lib.store.manifests import MANIFEST

SETTLED = 2.0
"""Seconds after which a change of a file moves its times for certain: file systems' clocks tick coarsely."""
_read: dict[tuple[int, ...], str] = {}


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes. In one process they are read once, as long as inode, size and times are the same.

    Every step asks for the weights of its base, which may be gigabytes.
    """
    facts = path.stat()
    state = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    if state in _read:
        return _read[state]
    settled = time.time() - max(facts.st_mtime, facts.st_ctime) > SETTLED
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if settled:
        _read[state] = digest
    return digest


def describe(folder: Path) -> dict[str, dict[str, Any]]:
    """Size in bytes and SHA-256 of every file in a folder but its manifest, by relative path."""
    files = {name: file for name, file in regular_files(folder).items() if name != MANIFEST}
    return {name: {"size": file.stat().st_size, "sha256": file_digest(file)} for name, file in files.items()}


def content_digest(files: Mapping[str, Mapping[str, Any]]) -> str:
    """The digest of an artifact, over its files' digests."""
    return value_digest({name: facts["sha256"] for name, facts in files.items()})


def value_digest(value: Any) -> str:
    """The digest of plain JSON; raises TypeError or ValueError for what JSON cannot hold the same way everywhere."""
    told = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(told.encode()).hexdigest()
