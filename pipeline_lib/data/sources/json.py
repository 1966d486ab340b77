"""JSON: one document with an array of objects, or one object a line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from pipeline_lib.data.sources.base import FileSource, Row, Unusable, flaw, text_lines
from pipeline_lib.errors import RecipeError


class Json(FileSource):
    """One JSON document that holds an array of objects."""

    suffixes: ClassVar = (".json",)

    kind: Literal["json"]
    """One JSON document with an array of objects. It is read whole: for more than memory holds, take jsonl."""
    records: str | None = None
    """Dotted key of the array, such as `data.rows`; left out, the document itself is the array."""

    def read(self, file: Path) -> Iterator[Row | Unusable]:
        """The objects of the array; `line` is an object's number in it, from 1."""
        found = load_json(file)
        for key in self.records.split(".") if self.records else ():
            found = found.get(key) if isinstance(found, dict) else None
        if not isinstance(found, list):
            mend = "Give the dotted key under which the file keeps its array of objects"
            raise RecipeError("data.source.records", self.records, f"no array there in {file}", mend)
        for number, record in enumerate(found, 1):
            yield _row(number, record)


class Jsonl(FileSource):
    """JSON lines."""

    suffixes: ClassVar = (".jsonl", ".ndjson")

    kind: Literal["jsonl"]
    """JSON lines: one object a line."""

    def read(self, file: Path) -> Iterator[Row | Unusable]:
        """The objects of one file; blank lines are passed over."""
        for number, line in enumerate(text_lines(file), 1):
            if not line.strip():
                continue
            try:
                yield _row(number, json.loads(line))
            except (ValueError, RecursionError) as error:
                yield Unusable(number, f"broken JSON: {error}")


def load_json(file: Path) -> Any:
    """A whole JSON document, plain or gzip."""
    try:
        return json.loads("".join(text_lines(file)))
    except (ValueError, RecursionError) as error:
        mend = "Mend the file, or take `kind: jsonl` if it has one object a line"
        raise RecipeError("data.source", str(file), f"broken JSON: {error}", mend) from error


def _row(line: int, record: Any) -> Row | Unusable:
    if not isinstance(record, dict):
        return Unusable(line, f"{json.dumps(record)[:40]} where an object should stand")
    # Written out again, since an escape such as \ud800 becomes a broken text only by parsing.
    if problem := flaw(json.dumps(record, ensure_ascii=False)):
        return Unusable(line, problem)
    return Row(line, record)
