"""Slices of the test rows that are scored separately: by a column's values, or by length."""

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
"""The most frequent values of a column get a slice each; all others share one slice."""


class ByColumn(Section):
    """One slice for each value of a column."""

    kind: Literal["column"]
    column: Annotated[str, Field(min_length=1)]
    """A column of the source; it need not be one that the model reads."""

    def names(self, values: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return the slice name of each row, and all slice names with the largest slice first."""
        counts = Counter(values)
        ordered = sorted(counts, key=lambda value: (-counts[value], value))
        names = {value: f"{self.column} {value or '(empty)'}" for value in ordered[:MOST]}
        rest = f"{self.column}: {len(ordered) - MOST} other values"
        slice_of_row = [names.get(value, rest) for value in values]
        return slice_of_row, [*names.values(), *([rest] if ordered[MOST:] else [])]


class ByLength(Section):
    """One slice for each range of lengths in tokens, after truncation, with special tokens and over all windows."""

    kind: Literal["length"]
    edges: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    """Lengths at which a new bin begins, strictly increasing: [20, 50] gives 1 to 19, 20 to 49, and from 50."""

    @field_validator("edges")
    @classmethod
    def _check_increasing(cls, edges: tuple[int, ...]) -> tuple[int, ...]:
        if any(low >= high for low, high in pairwise(edges)):
            raise ValueError("must be strictly increasing. Give each length once, the smallest first")
        return edges

    def names(self, lengths: Sequence[int]) -> tuple[list[str], list[str]]:
        """Return the slice name of each row, and the names of all nonempty slices with the shortest rows first."""
        inner = [f"length {low} to {high - 1}" for low, high in pairwise((1, *self.edges))]
        bins = [*inner, f"length from {self.edges[-1]}"]
        names = [bins[bisect_right(self.edges, length)] for length in lengths]
        return names, [name for name in bins if name in set(names)]


Slice = Annotated[ByColumn | ByLength, Field(discriminator="kind")]


def select_slices(
    slices: Sequence[Slice], lengths: "numpy.ndarray", columns: dict[str, list[str]]
) -> "dict[str, numpy.ndarray]":
    """Return the row indices of each nonempty slice, by slice name.

    Args:
        slices: The slices of the recipe.
        lengths: [rows] tokens.
        columns: Values of the columns that slices refer to, one per row.
    """
    import numpy as np

    indices: dict[str, Any] = {}
    for part in slices:
        if isinstance(part, ByColumn):
            names, ordered = part.names(columns[part.column])
        else:
            names, ordered = part.names(lengths.tolist())
        indices |= {name: np.flatnonzero(np.asarray(names) == name) for name in ordered}
    return indices


def row_lengths(encoded: "Examples", rows: int) -> "numpy.ndarray":
    """[rows] total tokens of each row's inputs."""
    import numpy as np

    owners = np.arange(rows) if encoded.rows is None else encoded.rows
    return np.bincount(owners, encoded.ids.lengths, minlength=rows).astype(np.int64)
