"""Detect a file's format from its name and content, as the fields of `data.source`."""

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pipeline_lib.data.sources import Source
from pipeline_lib.data.sources.csv import Csv, Tsv
from pipeline_lib.data.sources.text import Text
from pipeline_lib.errors import RecipeError
from pipeline_lib.util.section import is_folder

BY_SUFFIX = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".conll": "conll",
    ".iob": "conll",
    ".iob2": "conll",
    ".bio": "conll",
    ".conllu": "conllu",
    ".yaml": "yaml",
    ".yml": "yaml",
}
LINES = 2_000
"""Lines that are looked at."""
MOST_HEADER_WORDS = 4
MOST_TAGS = 0.2
"""Most different last words, as a share of the lines, of a file of words with their tags."""
PARAGRAPHS = 0.05
"""From this share of blank lines on a plain text is read by paragraphs."""

Fields = dict[str, Any]
"""`kind` and the other fields of a source, without its paths."""


class NoData(Exception):
    """A file that no source can read rows from, and why."""


def source(fields: Fields, **paths: Any) -> Any:
    """A source of these fields."""
    adapter: TypeAdapter[Any] = TypeAdapter(Source)
    return adapter.validate_python({**fields, **paths})


def fields_of(file: Path) -> Fields:
    """The fields of the source that reads a file; raises NoData where none does."""
    if is_folder(file):
        return {"kind": "huggingface"}
    suffix = suffix_of(file)
    kind = BY_SUFFIX.get(suffix)
    if suffix == ".json":
        return _json(file)
    if kind is None:
        return _detect_by_content(file)
    if kind in ("csv", "tsv"):
        return _name_columns({"kind": kind}, file)
    return _conll(file) if kind == "conll" else {"kind": kind}


def suffix_of(file: Path) -> str:
    """The end of a file's name, in front of .gz or .zst."""
    return Path(file.name.removesuffix(".gz").removesuffix(".zst")).suffix.lower()


def _lines(file: Path) -> Iterator[str]:
    reader = Text(kind="text", train=str(file))
    return (line.rstrip("\r\n") for line in islice(reader.lines(file), LINES))


def _json(file: Path) -> Fields:
    """An array of objects, SQuAD, an array under a key, or one object a line."""
    text = "".join(Text(kind="text", train=str(file)).lines(file))
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        if all(_is_object(line) for line in islice(filter(str.strip, text.split("\n")), LINES)):
            return {"kind": "jsonl"}
        raise NoData("is neither one JSON document nor one object a line") from None
    if isinstance(document, list):
        if not any(isinstance(record, dict) for record in document):
            raise NoData("is an array without objects")
        return {"kind": "json"}
    if not isinstance(document, dict):
        raise NoData("is not an array of objects")
    if _is_squad(document):
        return {"kind": "squad"}
    lists = {key: value for key, value in document.items() if isinstance(value, list) and value}
    arrays = [key for key, value in lists.items() if isinstance(value[0], dict)]
    if len(arrays) != 1:
        raise NoData(f"is one object, with {len(arrays)} arrays of objects in it")
    return {"kind": "json", "records": arrays[0]}


def _is_squad(document: dict[str, Any]) -> bool:
    try:
        return "qas" in document["data"][0]["paragraphs"][0]
    except (KeyError, IndexError, TypeError):
        return False


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _detect_by_content(file: Path) -> Fields:
    """A text file whose name says nothing: JSON, columns of tags, columns between tabs, or plain text."""
    lines = list(_lines(file))
    nonempty = [line for line in lines if line.strip()]
    if not nonempty:
        raise NoData("is empty")
    if "\0" in nonempty[0]:
        raise NoData("is not a text")
    if nonempty[0].lstrip().startswith(("{", "[")):
        return _json(file)
    if _has_tag_columns(lines):
        return _conll(file)
    if len(nonempty) == len(lines) and len({line.count("\t") for line in lines}) == 1 and "\t" in lines[0]:
        return _name_columns({"kind": "tsv"}, file)
    blank = 1 - len(nonempty) / len(lines)
    return {"kind": "text", "unit": "paragraph" if blank >= PARAGRAPHS else "line"}


def _has_tag_columns(lines: list[str]) -> bool:
    """Whether lines are words with their tags: in blocks of several lines, with few different last words."""
    words = [_cells(line)[-1] for line in lines if line.strip()]
    blocks = sum(1 for line in lines if not line.strip())
    few = len(set(words)) <= max(MOST_TAGS * len(words), 3)
    return 0 < blocks < 0.8 * len(words) and few and _conll_width(lines) > 1


def _conll_width(lines: list[str]) -> int:
    """How many columns all lines have that are not blank; 0 where they differ."""
    widths = {len(_cells(line)) for line in lines if line.strip() and not line.startswith(("-DOCSTART-", "# "))}
    return widths.pop() if len(widths) == 1 else 0


def _cells(line: str) -> list[str]:
    return re.split(r"[ \t]+", line.strip(" \t"))


def _conll(file: Path) -> Fields:
    """Tokens in the first column, or in the second after their numbers; tags in the last one."""
    lines = list(_lines(file))
    rows = [_cells(line) for line in lines if line.strip() and not line.startswith("-DOCSTART-")]
    width = _conll_width(lines)
    if width < 2:
        raise NoData("has no columns of tokens and tags")
    numbered = width > 2 and all(row[0].isdigit() for row in rows)
    names = [f"column{number}" for number in range(1, width + 1)]
    names[1 if numbered else 0], names[-1] = "tokens", "tags"
    return {"kind": "conll", **({} if names == ["tokens", "tags"] else {"names": names})}


def _name_columns(fields: Fields, file: Path) -> Fields:
    """With names for the columns where the first line is a row like the others."""
    kind: Any = Csv if fields["kind"] == "csv" else Tsv
    records = kind(kind=fields["kind"], train=str(file)).raw_records(file)
    rows = [record[1] for record in islice(records, LINES) if not hasattr(record, "reason")]
    if not rows:
        raise NoData("holds no row")
    if has_header(rows[0], rows[1:]):
        return fields
    return {**fields, "names": [f"column{number}" for number in range(1, len(rows[0]) + 1)]}


def has_header(first: list[str], others: list[list[str]]) -> bool:
    """Whether a first line names the columns.

    It does not where a value is empty, long, a number or a sentence, or stands in a column of few values again.
    """
    if len(set(first)) < len(first) or not all(map(_may_be_name, first)):
        return False
    for place, name in enumerate(first):
        column = [row[place] for row in others if len(row) == len(first)]
        if name in column and len(set(column)) < len(column) / 2:
            return False
    return True


def _may_be_name(value: str) -> bool:
    name = value.strip()
    if not name or len(name) > 60 or len(name.split()) > MOST_HEADER_WORDS:
        return False
    return any(map(str.isalpha, name)) and not re.search("[.!?。！？]$", name)


def first_rows(fields: Fields, file: Path) -> Iterator[Any]:
    """The rows of a file, usable or not; raises NoData where it cannot be read."""
    try:
        if fields["kind"] == "huggingface":
            reader = source(fields, path=str(file))
            for arrow in reader.files("train"):
                yield from reader.read(arrow)
        else:
            yield from source(fields, train=str(file)).read(file)
    except RecipeError as error:
        raise NoData(error.problem) from error
