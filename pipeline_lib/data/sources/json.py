"""JSON: one document with an array of objects, or one object per line."""

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
    """Column names for rows that are arrays of values; empty: rows are objects."""


class Json(_Arrays):
    """JSON documents."""

    suffixes: ClassVar = (".json",)

    kind: Literal["json"]
    """One JSON document with an array of objects. It is read into memory; use jsonl for larger data."""
    records: str | None = None
    """Dotted key of the array, such as `data.rows`; empty: the document itself is the array."""

    def read(self, file: Path) -> Iterator[Row | Unusable]:
        """Yield the objects of the array; `line` is the object's 1-based position in it."""
        value = load_json(file, self.lines(file))
        for key in self.records.split(".") if self.records else ():
            value = value.get(key) if isinstance(value, dict) else None
        if not isinstance(value, list):
            hint = "Set the dotted key of the array of objects in the file"
            raise RecipeError("data.source.records", self.records, f"no array at this key in {file}", hint)
        for number, record in enumerate(value, 1):
            try:
                yield _row(number, record, self.names)
            except RecursionError:
                yield Unusable(number, "lists or objects are nested too deeply")


class Jsonl(_Arrays):
    """JSON lines."""

    suffixes: ClassVar = (".jsonl", ".ndjson")

    kind: Literal["jsonl"]
    """JSON lines: one object per line. Commas between the lines and brackets around them are skipped."""

    def read(self, file: Path) -> Iterator[Row | Unusable]:
        """Yield the objects of one file, skipping blank lines and the brackets and commas of an array."""
        for number, line in enumerate(self.lines(file), 1):
            text = line.strip().removesuffix(",")
            if text in ("", "[", "]"):
                continue
            try:
                yield _row(number, json.loads(text, object_pairs_hook=_object), self.names)
            except (ValueError, RecursionError) as error:
                yield Unusable(number, f"invalid JSON: {error}")


def load_json(file: Path, lines: Iterator[str]) -> Any:
    """Parse a whole JSON document; raise RecipeError if it is invalid."""
    try:
        return json.loads("".join(lines), object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        hint = "Fix the file, or use `kind: jsonl` if it has one object per line"
        raise RecipeError("data.source", str(file), f"invalid JSON: {error}", hint) from error


class _RepeatedKey(dict[str, Any]):
    """An object in which a key appears more than once, so that its value is ambiguous."""

    key: str


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object from its pairs, marking one with a repeated key; the hook of `json.loads`."""
    values = dict(pairs)
    if len(values) == len(pairs):
        return values
    counts = Counter(key for key, _ in pairs)
    ambiguous = _RepeatedKey(values)
    ambiguous.key = next(key for key in values if counts[key] > 1)
    return ambiguous


def _row(line: int, record: Any, names: tuple[str, ...] | None) -> Row | Unusable:
    if isinstance(record, list) and names:
        if len(record) != len(names):
            return Unusable(line, f"{len(record)} value{'s' * (len(record) != 1)}, but `names` has {len(names)}")
        record = dict(zip(names, record))
    if not isinstance(record, dict):
        hint = " (set data.source.names for rows that are arrays)" if isinstance(record, list) else ""
        return Unusable(line, f"{json.dumps(record)[:40]} is not an object{hint}")
    if isinstance(record, _RepeatedKey):
        return Unusable(line, f"the key {record.key!r} appears more than once")
    # Check the parsed values: an escape such as \ud800 is valid JSON and becomes an invalid text only when parsed.
    if problem := flaw(json.dumps(record, ensure_ascii=False)):
        return Unusable(line, problem)
    return Row(line, record)
