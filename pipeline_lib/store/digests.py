"""SHA-256 digests of files, folders and plain values."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline_lib.store.integrity import regular_files
from pipeline_lib.store.manifests import MANIFEST

SETTLED = 2.0
"""Seconds after which a further change of a file surely changes its times: file system clocks are coarse."""
_read: dict[tuple[int, ...], str] = {}


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes.

    Cached in the process while inode, size and times are unchanged, because every step needs the digest of the base's
    weights, which may have gigabytes.
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


def digest_of_parts(digests: Sequence[str]) -> str:
    """Return the digest of a source file from those of its parts: aligned translations are two files."""
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def describe(folder: Path) -> dict[str, dict[str, Any]]:
    """Return size in bytes and SHA-256 of every file in a folder except its manifest, by relative path."""
    files = {name: file for name, file in regular_files(folder).items() if name != MANIFEST}
    return {name: {"size": file.stat().st_size, "sha256": file_digest(file)} for name, file in files.items()}


def content_digest(files: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the digest of an artifact, computed from the digests of its files."""
    return value_digest({name: facts["sha256"] for name, facts in files.items()})


def value_digest(value: Any) -> str:
    """Return the digest of a plain value; raises TypeError or ValueError if it has no canonical JSON form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
