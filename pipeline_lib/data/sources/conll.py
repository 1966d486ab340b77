"""CoNLL files: one token a line with its tags in columns, a blank line after each sentence."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from pipeline_lib.data.sources.base import Row, Unusable
from pipeline_lib.data.sources.text_file import TextSource, flaw

Line = tuple[int, str]


class Conll(TextSource):
    """CoNLL columns."""

    suffixes: ClassVar = (".conll", ".iob", ".iob2", ".bio")

    kind: Literal["conll"]
    """CoNLL columns: one token a line with its tags, and a blank line between sentences."""
    names: tuple[str, ...] = Field(default=("tokens", "tags"), min_length=1)
    """A name for each of the file's columns, in their order."""
    delimiter: str | None = Field(default=None, min_length=1)
    """What stands between two columns; left out, any run of tabs and spaces."""

    def read(self, file: Path) -> Iterator[Row | Unusable]:
        """One row a sentence, each column a list; `line` is that of its first token."""
        sentence: list[Line] = []
        for number, line in enumerate(self.lines(file), 1):
            # A separator may hold a tab. -DOCSTART- is not a token: it ends a sentence like a blank line.
            if line.strip() and not line.startswith("-DOCSTART-"):
                sentence.append((number, line.rstrip("\r\n")))
            elif sentence:
                yield self._row(sentence)
                sentence = []
        if sentence:
            yield self._row(sentence)

    def _row(self, sentence: list[Line]) -> Row | Unusable:
        table = [self._fields(line) for _, line in sentence]
        for (number, line), fields in zip(sentence, table):
            if len(fields) != len(self.names):
                count = f"{len(fields)} column{'s' * (len(fields) != 1)} where `names` has {len(self.names)}"
                return Unusable(sentence[0][0], f"line {number}: {count}")
            if problem := flaw(line):
                return Unusable(sentence[0][0], f"line {number}: {problem}")
        return Row(sentence[0][0], {name: list(column) for name, column in zip(self.names, zip(*table))})

    def _fields(self, line: str) -> list[str]:
        # str.split would also cut at the no-break and other Unicode spaces that stand inside tokens.
        return line.split(self.delimiter) if self.delimiter else re.split(r"[ \t]+", line.strip(" \t"))
