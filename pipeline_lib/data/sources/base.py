"""The contract of a data source: which files a split has, and how a file becomes rows."""

import fnmatch
import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import Field

from pipeline_lib.errors import RecipeError
from pipeline_lib.util.section import RecipePath, Section, is_file, is_folder


class Row(NamedTuple):
    """One usable record; `line` is where it begins in its file, from 1."""

    line: int
    values: dict[str, Any]


class Unusable(NamedTuple):
    """One record that could not be read, and why."""

    line: int
    reason: str


Paths = RecipePath | Annotated[tuple[RecipePath, ...], Field(min_length=1)]


class FileSource(Section):
    """Files on disk; each split takes a file, a glob, a folder, or a list of these. Plain, gzip or zstd."""

    suffixes: ClassVar[tuple[str, ...]] = ()

    train: Paths
    """Training data: a file, glob or folder, or a list of them."""
    validation: Paths | None = None
    """Validation data; left out, a share of the training data is set aside (see `data.split`)."""
    test: Paths | None = None
    """Test data; left out, a share of the training data is set aside (see `data.split`)."""

    def files(self, split: str) -> list[Path]:
        """The files of a split in a stable order; raises RecipeError if a path matches nothing."""
        given = getattr(self, split)
        paths = [given] if isinstance(given, str) else list(given or ())
        return [file for path in paths for file in self._expand(path, f"data.source.{split}")]

    def parts(self, file: Path) -> list[Path]:
        """All files whose bytes decide the rows of `file`: what a shard's fingerprint must see."""
        return [file]

    def _expand(self, path: str, field: str) -> list[Path]:
        found = Path(path)
        if is_folder(found):
            files = sorted(file for file in _walk(found) if self._is_mine(file))
        elif is_file(found):
            files = [found]
        else:
            files = sorted(file for file in _glob(path) if is_file(file))
        if not files:
            hint = "Paths are relative to the recipe's folder; check the spelling"
            raise RecipeError(field, path, "no such file", hint)
        return files

    def _is_mine(self, file: Path) -> bool:
        return _without_compression(file).endswith(self.suffixes) and not file.name.startswith(".")

    def read(self, file: Path) -> Iterator[Row | Unusable]:
        """The records of one file, in order."""
        raise NotImplementedError


def _walk(folder: Path) -> Iterator[Path]:
    """All files below a folder: hidden folders are passed over, linked ones followed, and each real folder read once,
    so that a link to a folder above it ends."""
    seen = set[str]()
    for place, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (file for name in names if (file := Path(place, name)).is_file())


def _glob(pattern: str) -> Iterator[Path]:
    """What a pattern matches. Python's own `**` goes round in a circle of links, without end where there are two."""
    parts = Path(pattern).parts
    if "**" not in parts:
        yield from map(Path, glob.glob(pattern))
        return
    at = parts.index("**")
    for top in glob.glob(str(Path(*parts[:at]))):
        for file in _walk(Path(top)):
            if _matches(file.relative_to(top).parts, parts[at:]):
                yield file


def _matches(names: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    if not pattern:
        return not names
    if pattern[0] == "**":
        return any(_matches(names[begin:], pattern[1:]) for begin in range(len(names) + 1))
    if not names or names[0].startswith(".") > pattern[0].startswith("."):
        return False
    return fnmatch.fnmatch(names[0], pattern[0]) and _matches(names[1:], pattern[1:])


def _without_compression(file: Path) -> str:
    return file.name.removesuffix(".gz").removesuffix(".zst")
