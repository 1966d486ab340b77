"""Detect tables in text files: their delimiter, their quoting, and whether the first line names the columns."""

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline_lib.data.sources import Source
from pipeline_lib.data.sources.csv import LINES as DETECTED
from pipeline_lib.data.sources.csv import Csv, Tsv, detect_delimiter, repeats_header
from pipeline_lib.init.encoding import find_encoding
from pipeline_lib.init.no_data import NoData
from pipeline_lib.init.roles import NAMED, normalize_name

LINES = 2_000
"""Lines that are looked at."""
FEWEST = 5
"""Lines of equally many fields from which on a file of unknown kind is a table."""
MOST_HEADER_WORDS = 4
Fields = dict[str, Any]


def table_fields(file: Path, kind: str, lines: Sequence[str]) -> Fields:
    """The fields of a source for a file that is named as `kind` (csv or tsv): what it holds may be the other one."""
    fields: Fields = {"kind": kind}
    if kind == "tsv":
        if is_quoted(lines):
            fields = {"kind": "csv", "delimiter": "\t"}
        elif lines and "\t" not in lines[0] and _width(lines, detect_delimiter(lines[:DETECTED])) > 1:
            fields = {"kind": "csv"}
    return _name_columns(fields, file)


def find_table(file: Path, lines: Sequence[str]) -> Fields | None:
    """The fields of a source for a table whose name does not say so; None if the lines are no table."""
    if _width(lines, "\t", quoted=False) > 1:
        return table_fields(file, "tsv", lines)
    if is_quoted(lines):
        return _name_columns({"kind": "csv", "delimiter": "\t"}, file)
    for delimiter in ";|,":
        if _width(lines, delimiter) > 1:
            header = {normalize_name(name) for name in next(csv.reader(lines[:1], delimiter=delimiter))}
            # lines of prose may have a comma each
            if len(header & KNOWN) > 1 or (delimiter != "," and len(lines) >= FEWEST):
                return _name_columns({"kind": "csv"}, file)
    return None


KNOWN = {name for names in NAMED.values() for name in names}


def _width(lines: Sequence[str], delimiter: str, quoted: bool = True) -> int:
    """How many fields all lines have; 0 where they differ, or are not valid."""
    widths = set()
    try:
        for fields in csv.reader(lines, delimiter=delimiter, strict=True) if quoted else _cut(lines, delimiter):
            if fields:
                widths.add(len(fields))
    except csv.Error as error:
        # the lines that are looked at may end within a quoted value
        if len(lines) < LINES or str(error) != "unexpected end of data":
            return 0
    return widths.pop() if len(widths) == 1 else 0


def _cut(lines: Sequence[str], delimiter: str) -> Iterator[list[str]]:
    return (line.split(delimiter) for line in lines)


def is_quoted(lines: Sequence[str]) -> bool:
    """Whether a table with tabs has quoted values: each line is valid with them, and a quote that opens closes."""
    values = [value for line in lines for value in line.split("\t") if value.startswith('"')]
    if not values or _width(lines, "\t") < 2:
        return False
    spans_lines = _width(lines, "\t", quoted=False) < 2
    return spans_lines or all(len(value) > 1 and value.endswith('"') for value in values)


def _name_columns(fields: Fields, file: Path) -> Fields:
    """With names for the columns where the first line is a row like the others."""
    kind: Any = Csv if fields["kind"] == "csv" else Tsv
    source: Source = kind(**fields, train=str(file), encoding=find_encoding(file) or "utf-8")
    records = source.raw_records(file)  # type: ignore[union-attr]
    rows = [record[1] for record in islice(records, LINES) if not hasattr(record, "reason")]
    if not rows:
        raise NoData("holds no row")
    if has_header(rows[0], rows[1:]):
        return fields
    return {**fields, "names": [f"column{number}" for number in range(1, len(rows[0]) + 1)]}


def has_header(first: list[str], others: list[list[str]]) -> bool:
    """Whether a first line names the columns; an index or empty columns may lack a name.

    It does not where a value is long, a number or a sentence, or stands in a column of few values again.
    """
    names = [name for name in first if name.strip()]
    if not names or not all(map(_may_be_name, names)):
        return False
    if len(set(names)) < len(names):
        return len({normalize_name(name) for name in names} & KNOWN) == len(set(names))
    for place, name in enumerate(first):
        column = [row[place] for row in others if len(row) == len(first) and not repeats_header(row, first)]
        if name and name in column and len(set(column)) < len(column) / 2:
            return False
    return True


def _may_be_name(value: str) -> bool:
    name = value.strip()
    if len(name) > 60 or len(name.split()) > MOST_HEADER_WORDS:
        return False
    return any(map(str.isalpha, name)) and not re.search("[.!?。！？]$", name)
