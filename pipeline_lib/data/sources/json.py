"""JSON: one document with an array of objects, or one object a line."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from pipeline_lib.data.sources.base import Row, Unusable
from pipeline_lib.data.sources.text_file import TextSource, flaw
from pipeline_lib.errors import RecipeError


class _Arrays(TextSource):
    names: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Column names, for rows that are arrays of values; left out, rows are objects."""


class Json(_Arrays):
    """One JSON document that holds an array of objects."""

    suffixes: ClassVar = (".json",)

    kind: Literal["json"]
    """One JSON document with an array of objects. It is read whole: for more than memory holds, take jsonl."""
    records: str | None = None
    """Dotted key of the array, such as `data.rows`; left out, the document itself is the array."""

    def read(self, file: Path) -> Iterator[Row | Unusable]:
        """The objects of the array; `line` is an object's number in it, from 1."""
        found = load_json(file, self.lines(file))
        for key in self.records.split(".") if self.records else ():
            found = found.get(key) if isinstance(found, dict) else None
        if not isinstance(found, list):
            hint = "Give the dotted key under which the file keeps its array of objects"
            raise RecipeError("data.source.records", self.records, f"no array there in {file}", hint)
        for number, record in enumerate(found, 1):
            try:
                yield _row(number, record, self.names)
            except RecursionError:
                yield Unusable(number, "lists or objects within one another, too deep to read")


class Jsonl(_Arrays):
    """JSON lines."""

    suffixes: ClassVar = (".jsonl", ".ndjson")

    kind: Literal["jsonl"]
    """JSON lines: one object a line."""

    def read(self, file: Path) -> Iterator[Row | Unusable]:
        """The objects of one file; blank lines are passed over."""
        for number, line in enumerate(self.lines(file), 1):
            if not line.strip():
                continue
            try:
                yield _row(number, json.loads(line, object_pairs_hook=_object), self.names)
            except (ValueError, RecursionError) as error:
                yield Unusable(number, f"broken JSON: {error}")


def load_json(file: Path, lines: Iterator[str]) -> Any:
    """A whole JSON document."""
    try:
        return json.loads("".join(lines), object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        hint = "Fix the file, or take `kind: jsonl` if it has one object a line"
        raise RecipeError("data.source", str(file), f"broken JSON: {error}", hint) from error


class _Twice(dict[str, Any]):
    """An object in which a key appears more than once: which value is meant cannot be known."""

    key: str


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    counts = Counter(key for key, _ in pairs)
    twice = _Twice(found)
    twice.key = next(key for key in found if counts[key] > 1)
    return twice


def _row(line: int, record: Any, names: tuple[str, ...] | None) -> Row | Unusable:
    if isinstance(record, list) and names:
        if len(record) != len(names):
            return Unusable(line, f"{len(record)} value{'s' * (len(record) != 1)} where `names` has {len(names)}")
        record = dict(zip(names, record))
    if not isinstance(record, dict):
        hint = ": give `names` for its values" if isinstance(record, list) else ""
        return Unusable(line, f"{json.dumps(record)[:40]} where an object should stand{hint}")
    if isinstance(record, _Twice):
        return Unusable(line, f"the key {record.key!r} appears more than once")
    # Written out again, since an escape such as \ud800 becomes a broken text only by parsing.
    if problem := flaw(json.dumps(record, ensure_ascii=False)):
        return Unusable(line, problem)
    return Row(line, record)
