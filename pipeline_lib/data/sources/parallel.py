"""Parallel texts: two files of which line n of the one translates line n of the other."""

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
"""A part of a file's name; the target file lies beside its source, never in another folder."""


class Parallel(TextSource):
    """Line-aligned files."""

    suffixes: ClassVar = ()

    kind: Literal["parallel"]
    """Line-aligned files: train, validation and test name the source's files, and each has its target beside it."""
    source_language: Language
    """The part of a source file's name that stands for its language: `en` in train.en.gz."""
    target_language: Language
    """What stands there in the target file's name: `de` for train.de.gz."""

    @model_validator(mode="after")
    def _are_two(self) -> Self:
        if self.source_language == self.target_language:
            raise ValueError("source_language and target_language are the same: a file would be its own translation")
        return self

    def parts(self, file: Path) -> list[Path]:
        """The source file and the target file beside it."""
        names = file.name.split(".")
        if self.source_language not in names:
            hint = "Name the source's files only, and call them like train.en"
            problem = f"no part of the name of {file}"
            raise RecipeError("data.source.source_language", self.source_language, problem, hint)
        at = len(names) - 1 - names[::-1].index(self.source_language)  # the last one: train.en-de.en, not the folder's
        target = file.with_name(".".join([*names[:at], self.target_language, *names[at + 1 :]]))
        if not is_file(target):
            hint = f"It must be next to {file.name}"
            raise RecipeError("data.source.target_language", self.target_language, f"no file {target}", hint)
        return [file, target]

    def read(self, file: Path) -> Iterator[Row | Unusable]:
        """One row a line, with `source` and `target`."""
        both = self.parts(file)
        for number, pair in enumerate(zip_longest(*map(self.lines, both)), 1):
            if None in pair:
                counts = " and ".join(f"{one} has {sum(1 for _ in self.lines(one))} lines" for one in both)
                raise RecipeError("data.source", str(file), counts, "Line n of both must belong together")
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
