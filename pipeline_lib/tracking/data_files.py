"""The source files of a recipe's data, as recorded in MLflow."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline_lib.data.splits import SPLITS
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.digests import digest_of_parts, file_digest
from pipeline_lib.util.redaction import redact

CONTEXT = "mlflow.data.context"
DIGITS = 32
"""Digits of a SHA-256 that are kept: MLflow takes 36 characters."""


class DataFile(NamedTuple):
    """A source file, its split, the first digits of its SHA-256, and its size if known."""

    split: str
    path: str
    digest: str
    bytes: int | None = None


def data_files(recipe: Recipe) -> Iterator[DataFile]:
    """Yield the source files as they are now; raises RecipeError if a path of the recipe matches no file."""
    for split in SPLITS:
        yield from split_files(recipe, split)


def split_files(recipe: Recipe, split: str) -> Iterator[DataFile]:
    """The files of one split."""
    source = recipe.data.source
    for file in source.files(split):
        parts = source.parts(file)
        digest = joint_digest([file_digest(part) for part in parts])
        yield DataFile(split, redact(str(file)), digest, sum(part.stat().st_size for part in parts))


def joint_digest(digests: Sequence[str]) -> str:
    """Return the digest of a source file, computed from those of its parts and shortened."""
    return digest_of_parts(digests)[:DIGITS]


def changes(then: Sequence[DataFile], now: Sequence[DataFile]) -> Iterator[tuple[DataFile, str]]:
    """Yield files that have grown, changed, are gone or are new, with the kind of change; moved files are unchanged."""
    # by content, so that a file which was only moved or renamed is in neither list
    contents_before = {(file.split, file.digest) for file in then}
    contents_now = {(file.split, file.digest) for file in now}
    lost = [file for file in then if (file.split, file.digest) not in contents_now]
    new = [file for file in now if (file.split, file.digest) not in contents_before]
    # a path in both lists is a file whose content has changed
    new_by_path = {(file.split, file.path): file for file in new}
    for file in lost:
        successor = new_by_path.pop((file.split, file.path), None)
        yield file, "is gone" if successor is None else _describe_change(file, successor)
    for file in new:
        if (file.split, file.path) in new_by_path:
            yield file, "is new"


def _describe_change(then: DataFile, now: DataFile) -> str:
    """Tell a file to which bytes were appended from one that was changed otherwise."""
    if then.bytes and now.bytes and now.bytes > then.bytes and _digest_of_start(now.path, then.bytes) == then.digest:
        return f"has grown by {now.bytes - then.bytes:,} bytes"
    return "has changed"


def _digest_of_start(path: str, size: int) -> str | None:
    """Return the digest of a file's first bytes; None if the file cannot be read."""
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while size > 0 and (block := file.read(min(size, 1 << 20))):
                digest.update(block)
                size -= len(block)
    except OSError:
        return None
    return digest.hexdigest()[:DIGITS]
