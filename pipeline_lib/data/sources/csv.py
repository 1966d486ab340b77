"""Delimited text: CSV with quoting as in RFC 4180, and TSV, where quotes are ordinary characters."""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from pipeline_lib.data.sources.base import Row, Unusable
from pipeline_lib.data.sources.text_file import TextSource, flaw
from pipeline_lib.errors import RecipeError

LONGEST = 2**24  # characters in a field: more than any real text, but limits how much an unclosed quote can swallow
DELIMITERS = ",;\t|"
"""Delimiters that are detected; of several that fit equally well, the first."""
LINES = 50
"""Number of lines by which the delimiter is detected."""
NAMED_DELIMITER = re.compile(r'"?sep=([^"\r\n])"?\s*', re.IGNORECASE)
"""The first line that Excel reads and writes to name the delimiter: `sep=;`."""
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
        """Yield the records of one file; `line` is where a record starts, even after values that span lines.

        Records without any value are skipped like blank lines, and so are columns without a name.
        """
        records = self.raw_records(file)
        names = self.names or _header(file, next(records, None))
        whose = "`names` has" if self.names else "the header has"
        for record in records:
            if isinstance(record, Unusable):
                yield record
            elif repeats_header(record[1], names):
                yield Unusable(record[0], "repeats the header")
            elif any(record[1]) or len(names) == 1:
                yield _row(record, names, whose)


class Csv(_Delimited):
    """Comma-separated values."""

    suffixes: ClassVar = (".csv",)

    kind: Literal["csv"]
    """Comma-separated values; quoted values may contain the delimiter and line breaks."""
    delimiter: str | None = Field(default=None, pattern=r'^[^"\r\n]$')
    """Single-character delimiter; empty: named in a first line `sep=;`, or detected (comma, semicolon, tab or |)."""

    def raw_records(self, file: Path) -> Iterator[Record | Unusable]:
        """Yield the lists of values, the header included."""
        csv.field_size_limit(LONGEST)
        begin = list(islice(self.lines(file), LINES))
        named = NAMED_DELIMITER.fullmatch(begin[0]) if begin else None
        skipped = 1 if named else 0
        delimiter = self.delimiter or (named[1] if named else detect_delimiter(begin))
        spaced = _has_spaces_after_delimiters(begin[skipped:], delimiter)
        lines = islice(self.lines(file), skipped, None)
        reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=spaced, strict=True)
        fields: list[str] | None = []
        while fields is not None:
            first = reader.line_num + 1 + skipped
            try:
                if fields := next(reader, None):  # a blank line is an empty list
                    yield first, fields
            except csv.Error as error:
                yield from _report_broken_record(first, reader.line_num + skipped, str(error))
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


def detect_delimiter(lines: Sequence[str]) -> str:
    """Return the delimiter that divides most of a file's first lines into as many fields as the first one."""
    best, best_share = DELIMITERS[0], 0.0
    for delimiter in DELIMITERS:
        widths = [len(fields) for fields in _parse_leniently(lines, delimiter)]
        share = widths.count(widths[0]) / len(widths) if widths and widths[0] > 1 else 0.0
        if share > best_share:
            best, best_share = delimiter, share
    return best


def _has_spaces_after_delimiters(lines: Sequence[str], delimiter: str) -> bool:
    """Return whether the first line has a space after each delimiter, as in `text, label`: it belongs to no value."""
    first = next(iter(_parse_leniently(lines[:1], delimiter)), [])
    return len(first) > 1 and all(value.startswith(" ") for value in first[1:])


def _parse_leniently(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    """Parse lines as CSV up to the first error, without blank lines; delimiters inside quotes do not count."""
    records = []
    try:
        for fields in csv.reader(lines, delimiter=delimiter):
            if fields:
                records.append(fields)
    except csv.Error:
        pass
    # a record that the sample cuts off in a quoted value has too few fields
    return records[:-1] if len(lines) == LINES and len(records) > 1 else records


def _row(record: Record, names: Sequence[str], whose: str) -> Row | Unusable:
    line, fields = record
    if len(fields) != len(names) and (any(fields[len(names) :]) or any(names[len(fields) :])):
        return Unusable(line, f"{len(fields)} field{'s' * (len(fields) != 1)}, but {whose} {len(names)}")
    if problem := flaw("".join(fields)):
        return Unusable(line, problem)
    return Row(line, {name: field for name, field in zip(names, fields) if name})


def repeats_header(fields: Sequence[str], names: Sequence[str]) -> bool:
    """Return whether a record is a header again, as in files that were joined; it may begin with a byte order mark."""
    return len(names) > 1 and fields[0].lstrip("\ufeff") == names[0] and list(fields[1:]) == list(names[1:])


def _header(file: Path, record: Record | Unusable | None) -> list[str]:
    hint = "Fix the first line, or give `names` for a file without a header"
    if record is None:
        raise RecipeError("data.source", str(file), "an empty file has no header", hint)
    problem, fields = (record.reason, []) if isinstance(record, Unusable) else (flaw("".join(record[1])), record[1])
    names = [name.strip() for name in fields]
    if not problem and (duplicate := _find_repeated_name(list(filter(None, names)))) is not None:
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
