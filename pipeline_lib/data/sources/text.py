"""Plain text, read by line, by paragraph or by file."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import ClassVar, Literal

from pipeline_lib.data.sources.base import Row, Unusable
from pipeline_lib.data.sources.text_file import TextSource, flaw


class Text(TextSource):
    """Plain text."""

    suffixes: ClassVar = (".txt",)

    kind: Literal["text"]
    """Plain text; rows have one column, `text`."""
    unit: Literal["line", "paragraph", "file"] = "line"
    """Unit of a row: a line, a paragraph (up to a blank line) or the whole file."""

    def read(self, file: Path) -> Iterator[Row | Unusable]:
        """Yield the units that are not blank; `line` is where each starts."""
        for line, text in self._units(file):
            problem = flaw(text)
            if problem:
                yield Unusable(line, problem)
            elif text.strip():
                yield Row(line, {"text": text})

    def _units(self, file: Path) -> Iterator[tuple[int, str]]:
        lines = enumerate(self.lines(file), 1)
        if self.unit == "line":
            yield from ((number, line.rstrip("\r\n")) for number, line in lines)
        elif self.unit == "file":
            yield 1, "".join(line for _, line in lines)
        else:
            for blank, group in groupby(lines, key=lambda numbered: not numbered[1].strip()):
                if not blank:
                    first, *rest = group
                    yield first[0], "".join([first[1], *(line for _, line in rest)]).rstrip("\r\n")
