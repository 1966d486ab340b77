"""Parts of the test rows that are scored by themselves: by a column's values, or by length."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PositiveInt, field_validator

from pipeline_lib.util.section import Section

if TYPE_CHECKING:
    import numpy

    from pipeline_lib.data.examples import Examples

MOST = 20
"""Values of a column that are scored one by one, the most frequent ones; the others are one slice together."""


class ByColumn(Section):
    """The rows that share a value of a column."""

    kind: Literal["column"]
    column: Annotated[str, Field(min_length=1)]
    """A column of the source; the model need not read it."""

    def names(self, values: Sequence[str]) -> tuple[list[str], list[str]]:
        """The slice of each row by the rows' values, and all slices, the largest first."""
        counts = Counter(values)
        ordered = sorted(counts, key=lambda value: (-counts[value], value))
        known = {value: f"{self.column} {value or '(empty)'}" for value in ordered[:MOST]}
        rest = f"{self.column}: {len(ordered) - MOST} other values"
        return [known.get(value, rest) for value in values], [*known.values(), *([rest] if ordered[MOST:] else [])]


class ByLength(Section):
    """The rows of like length in tokens, as the model reads them: cut, special tokens and all windows included."""

    kind: Literal["length"]
    edges: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    """Lengths at which a new bin begins, rising: [20, 50] gives 1 to 19, 20 to 49, and from 50."""

    @field_validator("edges")
    @classmethod
    def _rise(cls, edges: tuple[int, ...]) -> tuple[int, ...]:
        if any(low >= high for low, high in pairwise(edges)):
            raise ValueError("must be strictly increasing. Give each length once, the smallest first")
        return edges

    def names(self, lengths: Sequence[int]) -> tuple[list[str], list[str]]:
        """The slice of each row by the rows' lengths, and all slices, the shortest first."""
        inner = [f"length {low} to {high - 1}" for low, high in pairwise((1, *self.edges))]
        bins = [*inner, f"length from {self.edges[-1]}"]
        names = [bins[bisect_right(self.edges, length)] for length in lengths]
        return names, [name for name in bins if name in set(names)]


Slice = Annotated[ByColumn | ByLength, Field(discriminator="kind")]


def sliced(
    slices: Sequence[Slice], lengths: "numpy.ndarray", columns: dict[str, list[str]]
) -> "dict[str, numpy.ndarray]":
    """Indices of the rows of every slice that has any, by its name.

    lengths: [rows] tokens; `columns` holds each row's value of the columns that slices name.
    """
    import numpy as np

    found: dict[str, Any] = {}
    for each in slices:
        if isinstance(each, ByColumn):
            names, ordered = each.names(columns[each.column])
        else:
            names, ordered = each.names(lengths.tolist())
        found |= {name: np.flatnonzero(np.asarray(names) == name) for name in ordered}
    return found


def row_lengths(encoded: "Examples", rows: int) -> "numpy.ndarray":
    """[rows] tokens of each row's inputs together."""
    import numpy as np

    owners = np.arange(rows) if encoded.rows is None else encoded.rows
    return np.bincount(owners, encoded.ids.lengths, minlength=rows).astype(np.int64)
