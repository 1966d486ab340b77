"""Divide source files into groups that are encoded together, because a shard costs as much as some hundred rows.

A group depends on the contents of its files and hardly on which other files there are: the files are sorted by digest,
and whether a group ends at a file is decided by the file's own digest, as in content-defined chunking (Muthitacharoen,
Chen and Mazières 2001, "A low-bandwidth network file system"). So a new, changed or removed file changes its own group
and one or two more, wherever it lies and whatever it is called.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pipeline_lib.errors import RecipeError
from pipeline_lib.pipeline import fingerprints
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.artifacts import Step

GROUP_BYTES = 2**19
"""Mean size of a group of many files, encoded in some tenths of a second; a file of this size is a group of its own."""
FILE_BYTES = 2**13
"""Bytes that opening a file counts for, so that a group has at most about 64 files."""
GROUPS = 32
"""Mean number of groups that files are at least divided into; so few shards cost some tenths of a second."""


@dataclass(frozen=True)
class FileGroup:
    """Source files of a split that are encoded together, and the step that encodes them."""

    split: str
    files: tuple[Path, ...]
    step: Step

    @property
    def name(self) -> str:
        """The name of one of the files, and how many there are besides."""
        first, others = min(self.names), len(self.files) - 1
        return f"{first} and {others} more file{'s' * (others > 1)}" if others else first

    @property
    def names(self) -> list[str]:
        """The name of each file."""
        return [file.name for file in self.files]

    @property
    def digests(self) -> list[str]:
        """The SHA-256 of each file."""
        return [str(self.step.inputs[f"file {index}"]) for index in range(len(self.files))]

    def first_difference(self, step: Step) -> Path:
        """Return the first file that another step of the same files has with another digest, else the first file."""
        differing = (
            file for index, file in enumerate(self.files) if step.inputs[f"file {index}"] != self.digests[index]
        )
        return next(differing, self.files[0])


class SourceFile(NamedTuple):
    """A source file with the digest and the size of all that is read for it."""

    path: Path
    digest: str
    size: int


def find_groups(recipe: Recipe, tokenizer: Mapping[str, str], split: str) -> list[FileGroup]:
    """Return the groups of a split's source files; `tokenizer` has the digests of the tokenizer's files."""
    files = [_source_file(recipe, file) for file in recipe.data.source.files(split)]
    groups = []
    for group in group_files(files):
        step = fingerprints.shard_step(recipe, tokenizer, [file.digest for file in group])
        groups.append(FileGroup(split, tuple(file.path for file in group), step))
    return groups


def _source_file(recipe: Recipe, file: Path) -> SourceFile:
    try:
        size = sum(part.stat().st_size for part in recipe.data.source.parts(file))
        return SourceFile(file, fingerprints.source_digest(recipe, file), size)
    except OSError as error:
        problem, hint = f"cannot be read ({error.strerror})", "Check its permissions, and that nothing removes it"
        raise RecipeError("data.source", str(file), problem, hint) from error


def group_files(files: Sequence[SourceFile]) -> list[list[SourceFile]]:
    """Divide the files of a split into groups, in the order of their first files.

    The files of a group are sorted by digest. Up to `GROUPS` files are a group each.
    """
    groups = [[file] for file in files if file.size >= GROUP_BYTES]
    small = [file for file in files if file.size < GROUP_BYTES]
    group: list[SourceFile] = []
    for file in sorted(small, key=lambda file: file.digest):
        group.append(file)
        if _ends_group(file, len(small)):
            groups.append(group)
            group = []
    if group:
        groups.append(group)
    position = {file.path: index for index, file in enumerate(files)}
    return sorted(groups, key=lambda group: min(position[file.path] for file in group))


def _ends_group(file: SourceFile, count: int) -> bool:
    """Return whether a group ends at a file, one of `count` small ones.

    The probability is the file's share of a group. With more files it falls little by little, so that one file more
    moves hardly any border.
    """
    probability = max((file.size + FILE_BYTES) / GROUP_BYTES, GROUPS / count)
    # the digest's last digits, because the first ones decide the order
    return int(file.digest[-8:], 16) / 16**8 < probability
