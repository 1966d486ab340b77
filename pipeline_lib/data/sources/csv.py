"""Delimited text: CSV with quoting as in RFC 4180, and TSV, where quotes are ordinary characters."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from pipeline_lib.data.sources.base import Row, Unusable
from pipeline_lib.data.sources.text_file import TextSource, flaw
from pipeline_lib.errors import RecipeError

LONGEST = 2**24  # characters in a field: more than any real text, but limits how much an unclosed quote can swallow
Record = tuple[int, list[str]]


class _Delimited(TextSource):
    names: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Column names for files without a header line; empty: the first line of each file is the header."""

    @field_validator("names")
    @classmethod
    def _are_distinct(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if names and (duplicate := _find_repeated_name(names)):
            raise ValueError(f"the name {duplicate!r} appears more than once")
        return names

    def raw_records(self, file: Path) -> Iterator[Record | Unusable]:
        raise NotImplementedError

    def read(self, file: Path) -> Iterator[Row | Unusable]:
        """Yield the records of one file; `line` is where a record starts, even after values that span lines."""
        records = self.raw_records(file)
        names = self.names or _header(file, next(records, None))
        whose = "`names` has" if self.names else "the header has"
        for record in records:
            yield record if isinstance(record, Unusable) else _row(record, names, whose)


class Csv(_Delimited):
    """Comma-separated values."""

    suffixes: ClassVar = (".csv",)

    kind: Literal["csv"]
    """Comma-separated values; quoted values may contain the delimiter and line breaks."""
    delimiter: str | None = Field(default=None, pattern=r'^[^"\r\n]$')
    """Single-character delimiter; empty: detected from the first line (comma, else semicolon, else tab)."""

    def raw_records(self, file: Path) -> Iterator[Record | Unusable]:
        """Yield the lists of values, the header included."""
        csv.field_size_limit(LONGEST)
        delimiter = self.delimiter or _delimiter(next(self.lines(file), ""))
        reader = csv.reader(self.lines(file), delimiter=delimiter, strict=True)
        fields: list[str] | None = []
        while fields is not None:
            first = reader.line_num + 1
            try:
                if fields := next(reader, None):  # a blank line is an empty list
                    yield first, fields
            except csv.Error as error:
                yield from _report_broken_record(first, reader.line_num, str(error))
                fields = []


class Tsv(_Delimited):
    """Tab-separated values."""

    suffixes: ClassVar = (".tsv",)

    kind: Literal["tsv"]
    """Tab-separated values, one record per line; quotes are ordinary characters."""

    def raw_records(self, file: Path) -> Iterator[Record | Unusable]:
        """Yield the lists of values, the header included."""
        for number, line in enumerate(self.lines(file), 1):
            if values := line.rstrip("\r\n"):
                yield number, values.split("\t")


def _delimiter(line: str) -> str:
    """Detect the delimiter of a header line; parsing it as CSV keeps delimiters inside quotes from counting."""
    for delimiter in ",;\t":
        try:
            if len(next(csv.reader([line], delimiter=delimiter, strict=True), [])) > 1:
                return delimiter
        except csv.Error:
            continue
    return ","


def _row(record: Record, names: Sequence[str], whose: str) -> Row | Unusable:
    line, fields = record
    if len(fields) != len(names):
        return Unusable(line, f"{len(fields)} field{'s' * (len(fields) != 1)}, but {whose} {len(names)}")
    if problem := flaw("".join(fields)):
        return Unusable(line, problem)
    return Row(line, dict(zip(names, fields)))


def _header(file: Path, record: Record | Unusable | None) -> list[str]:
    hint = "Fix the first line, or give `names` for a file without a header"
    if record is None:
        raise RecipeError("data.source", str(file), "an empty file has no header", hint)
    problem, names = (record.reason, []) if isinstance(record, Unusable) else (flaw("".join(record[1])), record[1])
    if not problem and (duplicate := _find_repeated_name(names)) is not None:
        problem = f"the column {duplicate!r} appears more than once"
    if problem:
        raise RecipeError("data.source", str(file), f"the header cannot be used: {problem}", hint)
    return names


def _find_repeated_name(names: Sequence[str]) -> str | None:
    return next((name for name, count in Counter(names).items() if count > 1), None)


def _report_broken_record(first: int, last: int, error: str) -> Iterator[Unusable]:
    """Yield one Unusable per line of a broken record, so an unclosed quote that swallows half a file counts as such."""
    problem = "a quote that is never closed" if error == "unexpected end of data" else error
    record = f" in the record of lines {first} to {last}" if last > first else ""
    for line in range(first, last + 1):
        yield Unusable(line, problem + record)
