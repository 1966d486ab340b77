"""Detect a file's format from its name and content, as the fields of `data.source`."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pipeline_lib.data.sources import Source
from pipeline_lib.data.sources.compression import strip_suffix
from pipeline_lib.errors import RecipeError
from pipeline_lib.init.conll_files import are_sentences, conll_fields, has_tag_columns
from pipeline_lib.init.delimited import LINES, Fields, find_table, table_fields
from pipeline_lib.init.encoding import find_encoding, text_source
from pipeline_lib.init.json_files import json_fields, json_lines_fields
from pipeline_lib.init.no_data import NoData
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
PARQUET = b"PAR1"
"""How a Parquet file begins."""
PARAGRAPHS = 0.05
"""From this share of blank lines on a plain text is read by paragraphs."""


def source(fields: Fields, **paths: Any) -> Any:
    """A source of these fields."""
    adapter: TypeAdapter[Any] = TypeAdapter(Source)
    return adapter.validate_python({**fields, **paths})


def fields_of(file: Path) -> Fields:
    """The fields of the source that reads a file; raises NoData where none does."""
    if is_folder(file):
        return {"kind": "huggingface"}
    with file.open("rb") as opened:
        if opened.read(len(PARQUET)) == PARQUET:
            return {"kind": "parquet"}
    try:
        fields = _text_fields(file)
        encoding = None if fields["kind"] == "parquet" else find_encoding(file)
    except RecipeError as error:
        raise NoData(f"{error.problem} ({error.hint})" if error.hint else error.problem) from error
    return {**fields, "encoding": encoding} if encoding else fields


def _text_fields(file: Path) -> Fields:
    suffix = suffix_of(file)
    kind = BY_SUFFIX.get(suffix)
    if suffix == ".json":
        return json_fields(file)
    if kind in ("parquet", "conllu", "yaml"):
        return {"kind": kind}
    lines = list(_lines(file))
    if kind == "jsonl":
        return json_lines_fields(file, lines)
    if kind in ("csv", "tsv"):
        return table_fields(file, kind, lines)
    if kind == "conll" and not are_sentences(lines):
        return conll_fields(lines)
    return _detect_by_content(file, lines)


def suffix_of(file: Path) -> str:
    """The end of a file's name, in front of the ending of its compression."""
    return Path(strip_suffix(file.name)).suffix


def _lines(file: Path) -> Iterator[str]:
    return (line.rstrip("\r\n") for line in islice(text_source(file).lines(file), LINES))


def _detect_by_content(file: Path, lines: list[str]) -> Fields:
    """A text file whose name says nothing: JSON, columns of tags, a table, or plain text."""
    nonempty = [line for line in lines if line.strip()]
    if not nonempty:
        raise NoData("is empty")
    if "\0" in nonempty[0]:
        raise NoData("is not a text")
    if nonempty[0].lstrip().startswith(("{", "[")):
        return json_fields(file)
    if has_tag_columns(lines):
        return conll_fields(lines)
    if all(line.startswith("__label__") for line in nonempty):
        raise NoData(
            "has labels as fastText reads them (__label__): write a table with a column of texts and one of labels"
        )
    if len(nonempty) == len(lines) and (fields := find_table(file, lines)):
        return fields
    blank = 1 - len(nonempty) / len(lines)
    return {"kind": "text", "unit": "paragraph" if blank >= PARAGRAPHS else "line"}


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
