"""Parallel texts: two files in which line n of one translates line n of the other."""

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from pipeline_lib.data.sources.base import Row, Unusable
from pipeline_lib.data.sources.text_file import TextSource, flaw
from pipeline_lib.errors import RecipeError
from pipeline_lib.util.section import is_file

Language = Annotated[str, Field(pattern=r"^[\w-][\w.-]*$")]
"""One dot-separated part of a file name; without slashes, so that the target file is always next to its source."""


class Parallel(TextSource):
    """Line-aligned files."""

    suffixes: ClassVar = ()

    kind: Literal["parallel"]
    """Line-aligned files: train, validation and test name the source files; each target file is next to its source."""
    source_language: Language
    """Language part of the source file names: `en` in train.en.gz."""
    target_language: Language
    """Language part of the target file names: `de` in train.de.gz."""

    @model_validator(mode="after")
    def _are_two(self) -> Self:
        if self.source_language == self.target_language:
            raise ValueError("source_language and target_language must be different")
        return self

    def parts(self, file: Path) -> list[Path]:
        """Return the source file and the target file next to it."""
        names = file.name.split(".")
        if self.source_language not in names:
            hint = "List only source files, with names such as train.en"
            problem = f"not a part of the file name {file}"
            raise RecipeError("data.source.source_language", self.source_language, problem, hint)
        # Replace the last occurrence: in en.train.en the first one may be part of the data set's name.
        at = len(names) - 1 - names[::-1].index(self.source_language)
        target = file.with_name(".".join([*names[:at], self.target_language, *names[at + 1 :]]))
        if not is_file(target):
            hint = f"It must be next to {file.name}"
            raise RecipeError("data.source.target_language", self.target_language, f"no file {target}", hint)
        return [file, target]

    def read(self, file: Path) -> Iterator[Row | Unusable]:
        """Yield one row per line, with `source` and `target`."""
        both = self.parts(file)
        for number, pair in enumerate(zip_longest(*map(self.lines, both)), 1):
            if None in pair:
                counts = " and ".join(f"{one} has {sum(1 for _ in self.lines(one))} lines" for one in both)
                hint = "Line n of one file must translate line n of the other"
                raise RecipeError("data.source", str(file), counts, hint)
            yield _row(number, *(line.rstrip("\r\n") for line in pair))

    def _is_mine(self, file: Path) -> bool:
        return self.source_language in file.name.split(".") and not file.name.startswith(".")


def _row(number: int, source: str, target: str) -> Row | Unusable:
    values = {"source": source, "target": target}
    for side, text in values.items():
        if not text.strip():
            return Unusable(number, f"the {side} line is empty")
        if problem := flaw(text):
            return Unusable(number, f"{problem} in the {side} line")
    return Row(number, values)
