"""YAML: a list of mappings, read one item at a time."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pipeline_lib.data.sources.base import Row, Unusable
from pipeline_lib.data.sources.text_file import TextSource, flaw
from pipeline_lib.errors import RecipeError

ITEM = re.compile(r"( *)-(?=\s|$)")
BETWEEN = re.compile(r"\s*(#.*)?$|(---|\.\.\.)(\s|$)|%")
"""Lines that belong to no item: blank ones, comments, and the marks of a document."""


class Yaml(TextSource):
    """YAML lists."""

    suffixes: ClassVar = (".yaml", ".yml")

    kind: Literal["yaml"]
    """YAML: a list of mappings, each item on lines of its own that start with `- `. Labels such as `no` are texts only
    in quotes."""

    def read(self, file: Path) -> Iterator[Row | Unusable]:
        """Yield one row per item; `line` is the item's first line."""
        item: list[str] = []
        begin, dash = 0, ""
        for number, line in enumerate(self.lines(file), 1):
            if not dash:
                if BETWEEN.match(line):
                    continue
                dash = _first_dash(file, number, line)
            if line.startswith(dash) and ITEM.match(line):
                if item:
                    yield _row(begin, "".join(item))
                begin, item = number, []
            item.append(line)
        if item:
            yield _row(begin, "".join(item))


def _first_dash(file: Path, number: int, line: str) -> str:
    """Return the start of the line of each item; raises RecipeError if the first one is not the start of an item."""
    if match := ITEM.match(line):
        return match[0]
    hint = "Write a list whose items start with `- `, one below the other, or set the correct `kind`"
    raise RecipeError("data.source", str(file), f"line {number} does not start an item of a YAML list", hint)


def _row(line: int, text: str) -> Row | Unusable:
    from pipeline_lib.recipe.yaml_text import InvalidYaml, parse_yaml

    if problem := flaw(text):
        return Unusable(line, problem)
    try:
        document = parse_yaml(text)
    except InvalidYaml as error:
        return Unusable(line, f"invalid YAML, counted from this line: {error}")
    record = document[0]
    if not isinstance(record, dict):
        return Unusable(line, f"{str(record)[:40]!r} is not a mapping")
    if odd := [key for key in record if not isinstance(key, str)]:
        return Unusable(line, f"the key {odd[0]!r} is not a text; put it in quotes")
    return Row(line, record)
