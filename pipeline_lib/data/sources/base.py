"""Base class of data sources: list the files of a split and read the rows of a file."""

import fnmatch
import glob
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import Field

from pipeline_lib.data.sources.compression import strip_suffix
from pipeline_lib.errors import RecipeError
from pipeline_lib.util.section import RecipePath, Section, is_file, is_folder


class Row(NamedTuple):
    """One usable record; `line` is the 1-based line where it starts in its file."""

    line: int
    values: dict[str, Any]

    def get(self, column: str) -> Any:
        """The value of a column, None without one; a dotted name is the key of an object in another column."""
        if column in self.values or "." not in column:
            return self.values.get(column)
        value: Any = self.values
        for key in column.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        return value


class Unusable(NamedTuple):
    """One record that could not be read, and the reason."""

    line: int
    reason: str


Paths = RecipePath | Annotated[tuple[RecipePath, ...], Field(min_length=1)]


class FileSource(Section):
    """Files on disk. Each split is a file, a glob, a folder or a list of these.

    Text files may be compressed with gzip, bzip2, xz, zstd or lz4.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()

    train: Paths
    """Training data: a file, a glob, a folder or a list of these."""
    validation: Paths | None = None
    """Validation data; empty: a share of the training data is set aside (see `data.split`)."""
    test: Paths | None = None
    """Test data; empty: a share of the training data is set aside (see `data.split`)."""

    def files(self, split: str) -> list[Path]:
        """Return the files of a split in a stable order.

        Raises:
            RecipeError: A path matches no file.
        """
        given = getattr(self, split)
        paths = [given] if isinstance(given, str) else list(given or ())
        return [file for path in paths for file in self._expand(path, f"data.source.{split}")]

    def parts(self, file: Path) -> list[Path]:
        """Return all files whose content determines the rows of `file`; a shard's fingerprint covers them all."""
        return [file]

    def _expand(self, path: str, field: str) -> list[Path]:
        location = Path(path)
        if is_folder(location):
            files = sorted(file for file in _walk(location) if self._is_mine(file))
        elif is_file(location):
            files = [location]
        else:
            files = sorted(file for file in _glob(path) if is_file(file))
        if not files:
            hint = "Paths are relative to the recipe's folder; check the spelling"
            raise RecipeError(field, path, "no such file", hint)
        refuse_undecodable_names(field, files)
        return files

    def _is_mine(self, file: Path) -> bool:
        return strip_suffix(file.name).endswith(self.suffixes) and not file.name.startswith(".")

    def read(self, file: Path) -> Iterator[Row | Unusable]:
        """Yield the records of one file in order."""
        raise NotImplementedError


def refuse_undecodable_names(field: str, files: Iterable[Path]) -> None:
    """Raise RecipeError for a file whose name is not UTF-8: reports and manifests could not name it."""
    for file in files:
        try:
            str(file).encode()
        except UnicodeEncodeError:
            raise RecipeError(field, ascii(str(file)), "has a name that is not UTF-8", "Rename the file") from None


def _refuse_folder(error: OSError) -> None:
    """Raise RecipeError for a folder that cannot be listed, whose files would be missing."""
    problem = f"cannot be listed ({error.strerror})"
    raise RecipeError("data.source", str(error.filename), problem, "Check its permissions") from error


def _walk(folder: Path) -> Iterator[Path]:
    """Yield all files below a folder.

    Skips hidden folders and follows links, but visits each real folder once, so a link to a parent folder cannot loop.
    """
    visited = set[str]()
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=_refuse_folder):
        real = os.path.realpath(parent)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        # os.walk descends into what is left in this list, in this order
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (file for name in names if (file := Path(parent, name)).is_file())


def _glob(pattern: str) -> Iterator[Path]:
    """Yield the paths that match a pattern.

    `**` is resolved with `_walk`, because the one in Python's `glob` follows circular links endlessly.
    """
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
    """Return whether the parts of a relative path match the parts of a glob pattern."""
    if not pattern:
        return not names
    if pattern[0] == "**":
        return any(_matches(names[begin:], pattern[1:]) for begin in range(len(names) + 1))
    # As in a shell, a hidden name matches only a pattern that itself starts with a dot.
    if not names or names[0].startswith(".") > pattern[0].startswith("."):
        return False
    return fnmatch.fnmatch(names[0], pattern[0]) and _matches(names[1:], pattern[1:])
