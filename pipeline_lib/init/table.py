"""Read the rows of a dataset's files into statistics of their columns."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import combinations, islice
from pathlib import Path
from typing import Any

from pipeline_lib.data.sources import Row
from pipeline_lib.init.column import Column
from pipeline_lib.init.formats import Fields, first_rows
from pipeline_lib.init.no_data import NoData
from pipeline_lib.objectives.values import is_list, parse_list

ROWS = 100_000
"""Rows of a file that are looked at."""
MOST_PAIRED = 12
"""Columns up to which it is counted whether two have equally many words."""
SAME = 0.25
"""From this share of equal texts on two files hold the same rows: of translations, the ids alone are equal."""
ALIGNED = 0.95
"""Share of the rows in which two columns are of equal length if they belong together word by word."""
KEYS = 5_000
"""Rows by which files are compared."""


@dataclass
class FileTable:
    """What is known of one file."""

    file: Path
    fields: Fields
    columns: dict[str, Column] = field(default_factory=dict)
    rows: int = 0
    more: bool = False
    """Whether the file has more rows than were looked at."""
    unusable: list[str] = field(default_factory=list)
    aligned: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Rows in which two columns have equally many words or items."""
    starts: set[str] = field(default_factory=set)
    """The first rows, to see whether two files hold the same ones."""

    def add(self, values: dict[str, Any]) -> None:
        """Count one row."""
        self.rows += 1
        counts = {}
        for name, value in values.items():
            if name not in self.columns:
                self.columns[name] = Column(name, rows=self.rows - 1, missing=self.rows - 1)
            self.columns[name].add(value)
            if len(values) <= MOST_PAIRED and (count := _words(value)):
                counts[name] = count
        for name in self.columns.keys() - values.keys():
            self.columns[name].add(None)
        for one, other in combinations(sorted(counts), 2):
            self.aligned[one, other] += counts[one] == counts[other]
        if len(self.starts) < KEYS:
            self.starts |= {str(value) for value in values.values() if isinstance(value, str) and len(value) > 20}

    def are_aligned(self, one: str, other: str) -> bool:
        """Whether two columns have equally many words or items in nearly every row."""
        first, second = sorted((one, other))
        return self.rows > 0 and self.aligned[first, second] >= self.rows * ALIGNED

    def shares_rows_with(self, other: "FileTable") -> bool:
        """Whether many texts or ids of the smaller file stand in the other one, as in two versions of one data set."""
        fewest = min(len(self.starts), len(other.starts))
        return fewest > 0 and len(self.starts & other.starts) > fewest * SAME


def read_table(file: Path, fields: Fields) -> FileTable:
    """Read a file's rows; raises NoData where it has none that can be used."""
    table = FileTable(file, fields)
    for row in islice(first_rows(fields, file), ROWS + 1):
        if table.rows + len(table.unusable) == ROWS:
            table.more = True
            break
        if isinstance(row, Row):
            table.add(row.values)
        else:
            table.unusable.append(f"line {row.line}: {row.reason}")
    if not table.rows:
        reasons = "; ".join(table.unusable[:3])
        raise NoData(f"has no usable row ({reasons})" if reasons else "has no rows")
    return table


def _words(value: Any) -> int:
    """The items of a list, or the words of a text; 0 for anything else."""
    if is_list(value):
        return len(value)
    if not isinstance(value, str):
        return 0
    try:
        items = parse_list("", value) if value[:1] == "[" else None
    except ValueError:
        items = None
    return len(value.split() if items is None else items)
