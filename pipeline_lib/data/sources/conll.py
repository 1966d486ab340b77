"""CoNLL files: one token and its tags per line, with a blank line between sentences."""

import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from pipeline_lib.data.sources.base import Row, Unusable
from pipeline_lib.data.sources.text_file import TextSource, flaw

Line = tuple[int, str]
COMMENT = re.compile(r"#\s*[\w.:-]+\s*=\s")
"""A comment that could have as many columns as the rows: `# sent_id = 1`."""


class Conll(TextSource):
    """CoNLL files."""

    suffixes: ClassVar = (".conll", ".iob", ".iob2", ".bio")

    kind: Literal["conll"]
    """CoNLL columns: one token and its tags per line, with a blank line between sentences. Lines with `#` before a
    sentence are comments unless they have as many columns as the rows."""
    names: tuple[str, ...] = Field(default=("tokens", "tags"), min_length=1)
    """Names of the file's columns, in order."""
    delimiter: str | None = Field(default=None, min_length=1)
    """Column delimiter; empty: any run of tabs and spaces."""

    def read(self, file: Path) -> Iterator[Row | Unusable]:
        """Yield one row per sentence, each column a list; `line` is the line of the first token."""
        sentence: list[Line] = []
        for number, line in enumerate(self.lines(file), 1):
            # A separator line may contain a tab. -DOCSTART- is not a token: like a blank line, it ends a sentence.
            if line.strip() and not line.startswith("-DOCSTART-"):
                sentence.append((number, line.rstrip("\r\n")))
                continue
            yield from self._rows(sentence)
            sentence = []
        yield from self._rows(sentence)

    def _rows(self, sentence: list[Line]) -> Iterator[Row | Unusable]:
        """Yield the row of a sentence, or nothing if there are only comments."""
        comments = list(takewhile(lambda numbered: self._is_comment(numbered[1]), sentence))
        if words := sentence[len(comments) :]:
            yield self._row(words)

    def _is_comment(self, line: str) -> bool:
        return line.startswith("#") and (len(self._fields(line)) != len(self.names) or bool(COMMENT.match(line)))

    def _row(self, sentence: list[Line]) -> Row | Unusable:
        table = [self._fields(line) for _, line in sentence]
        for (number, line), fields in zip(sentence, table):
            if len(fields) != len(self.names):
                count = f"{len(fields)} column{'s' * (len(fields) != 1)}, but `names` has {len(self.names)}"
                return Unusable(sentence[0][0], f"line {number}: {count}")
            if problem := flaw(line):
                return Unusable(sentence[0][0], f"line {number}: {problem}")
        return Row(sentence[0][0], {name: list(column) for name, column in zip(self.names, zip(*table))})

    def _fields(self, line: str) -> list[str]:
        # str.split() would also split at no-break and other Unicode spaces, which occur inside tokens.
        return line.split(self.delimiter) if self.delimiter else re.split(r"[ \t]+", line.strip(" \t"))
