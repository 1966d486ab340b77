"""What a model answered to a set of rows, and what a metric is: a function of that, and how to read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf
from typing import Any

import numpy as np

from pipeline_lib.evaluation.metrics.class_counts import ClassCounts, tally_of
from pipeline_lib.evaluation.totals import Totals

BINS = 15
"""Equal-width bins of confidence, as in Guo et al. (2017), table 1."""


class RowValues(Totals):
    """Rows whose values are known one by one."""

    groups: np.ndarray | None

    def __len__(self) -> int:
        raise NotImplementedError

    def row_values(self, name: str) -> Any:
        """[n] or [n, k], dense or a SciPy sparse array."""
        if name not in self._row_values:
            self._row_values[name] = np.ones(len(self)) if name == "rows" else self._values(name)
        return self._row_values[name]

    def total(self, name: str) -> np.ndarray:
        """The sum over rows, a number or [k]."""
        if name not in self._totals:
            self._totals[name] = np.asarray(self.row_values(name).sum(axis=0))[()]
        return self._totals[name]

    def _values(self, name: str) -> Any:
        raise NotImplementedError

    @cached_property
    def _row_values(self) -> dict[str, Any]:
        return {}

    @cached_property
    def _totals(self) -> dict[str, np.ndarray]:
        return {}

    @property
    def group_of_row(self) -> np.ndarray:
        """[n] the group of each row, from 0; every row is one of its own where no groups are known."""
        if self.groups is None:
            return np.arange(len(self))
        return np.unique(self.groups, return_inverse=True)[1].reshape(-1)


@dataclass(frozen=True, eq=False)
class Predictions(RowValues):
    """Gold answers beside a model's, row by row, n rows and K classes.

    - one label a row: `gold` and `guess` [n] class index, `probabilities` [n, K];
    - several labels a row: `gold` and `guess` [n, K] of 0 and 1, kept as bool, `probabilities` [n, K];
    - a number a row: `gold` and `guess` [n] in the unit of the data, `probabilities` None.

    Raises ValueError where the three do not have the same number of rows.
    """

    gold: np.ndarray
    guess: np.ndarray
    probabilities: np.ndarray | None = None
    groups: np.ndarray | None = None
    """[n] equal for rows that belong together (one document, user, thread): they vary together."""

    def __post_init__(self):
        known = (part for part in (self.gold, self.guess, self.probabilities) if part is not None)
        if len(lengths := {len(part) for part in known}) > 1:
            raise ValueError(f"gold, guess and probabilities differ in their number of rows: {sorted(lengths)}")
        if self.multi_label:  # a byte a decision, not eight
            for part in ("gold", "guess"):
                object.__setattr__(self, part, getattr(self, part).astype(bool, copy=False))

    def __len__(self) -> int:
        return len(self.gold)

    def take(self, rows: np.ndarray) -> Predictions:
        """The rows at these indices, in this order and as often as they are named."""
        probabilities = None if self.probabilities is None else self.probabilities[rows]
        groups = None if self.groups is None else self.groups[rows]
        return Predictions(self.gold[rows], self.guess[rows], probabilities, groups)

    def in_groups(self, groups: np.ndarray) -> Predictions:
        """The same rows, in these groups [n]."""
        return replace(self, groups=groups)

    @property
    def chances(self) -> np.ndarray:
        """The probabilities [n, K]; raises ValueError for numbers, which have none."""
        if self.probabilities is None:
            raise ValueError("this needs the probabilities of classes, and the outcome has none")
        return self.probabilities

    @property
    def multi_label(self) -> bool:
        """True where a row can have several labels."""
        return self.gold.ndim == 2

    @property
    def one_label(self) -> bool:
        """True where each row has one label out of several."""
        return self.probabilities is not None and not self.multi_label

    @property
    def tally(self) -> ClassCounts:
        """Counts by class."""
        return tally_of(self)

    @property
    def confidence(self) -> np.ndarray:
        """The probability that the model gave to each of its decisions, right or wrong: [n], or [n, K]."""
        if self.multi_label:
            return np.where(self.guess, self.chances, 1 - self.chances)
        return self.chances[np.arange(len(self)), self.guess]

    @property
    def gaps(self) -> np.ndarray:
        """[n, BINS]: a row's decisions in each bin of confidence, summed as (1 if right else 0) - confidence."""
        confidence, right = self.confidence, self.gold == self.guess
        cells = calibration_bin(confidence) + BINS * np.arange(len(self)).reshape((-1,) + (1,) * (right.ndim - 1))
        sums = np.bincount(cells.ravel(), (right - confidence).ravel(), minlength=BINS * len(self))
        return sums.reshape(len(self), BINS)

    def _values(self, name: str) -> Any:
        if name in ClassCounts._fields:
            return self._counts(name)
        if name == "right":
            right = self.gold == self.guess
            return right.all(axis=1) if self.multi_label else right
        if name == "decisions":
            return np.full(len(self), self.gold.shape[1] if self.multi_label else 1)
        if name == "gaps":
            return self.gaps
        if name == "surprise":
            chances = self.chances[np.arange(len(self)), self.gold]
            return -np.log(np.clip(chances, np.finfo(chances.dtype).eps, 1))
        return self._moments(name)

    def _counts(self, name: str) -> Any:
        """[n, K] 1 where the row counts for the class: as its gold label, as the guess, or as both."""
        if self.multi_label:
            return {"gold": self.gold, "guess": self.guess, "hits": self.gold & self.guess}[name].astype(np.float64)
        from scipy.sparse import csr_array

        rows = np.flatnonzero(self.gold == self.guess) if name == "hits" else np.arange(len(self))
        classes = (self.guess if name == "guess" else self.gold)[rows]
        return csr_array((np.ones(len(rows)), (rows, classes)), shape=(len(self), self.chances.shape[1]))

    def _moments(self, name: str) -> np.ndarray:
        """Of numbers."""
        gold, guess = self.gold.astype(np.float64), self.guess.astype(np.float64)
        if name == "squared_error":
            return (guess - gold) ** 2
        if name == "absolute_error":
            return np.abs(guess - gold)
        if name == "rank_moments":
            from scipy.stats import rankdata

            return moments(rankdata(gold), rankdata(guess))
        if name != "moments":
            raise KeyError(name)
        return moments(gold, guess)


def moments(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[n, 5] x, y, x^2, y^2 and xy, from which a correlation is computed.

    Both are shifted by their medians: large numbers lose no digits, and a constant is exactly 0.
    """
    if len(x):
        x, y = x - np.median(x), y - np.median(y)
    return np.stack([x, y, x * x, y * y, x * y], axis=1)


def calibration_bin(confidence: np.ndarray) -> np.ndarray:
    """The bin, from 0, of each confidence: bin m holds (m / BINS, (m + 1) / BINS], the first one 0 as well."""
    return np.clip(np.ceil(confidence * BINS).astype(np.intp) - 1, 0, BINS - 1)


@dataclass(frozen=True, eq=False)
class RowCounts(RowValues):
    """Counts by row, [n] or [n, k] each by name, of which every metric needs nothing but the sums over rows."""

    counts: Mapping[str, np.ndarray]
    groups: np.ndarray | None = None
    """[n] equal for rows that belong together."""

    def __len__(self) -> int:
        return len(next(iter(self.counts.values())))

    def take(self, rows: np.ndarray) -> RowCounts:
        """The rows at these indices, in this order and as often as they are named."""
        groups = None if self.groups is None else self.groups[rows]
        return RowCounts({name: values[rows] for name, values in self.counts.items()}, groups)

    def in_groups(self, groups: np.ndarray) -> RowCounts:
        """The same rows, in these groups [n]."""
        return replace(self, groups=groups)

    def _values(self, name: str) -> np.ndarray:
        return self.counts[name]


@dataclass(frozen=True)
class Metric:
    """A number that says how good an outcome is; nan where the rows do not define it."""

    function: Callable[[Any], Any]
    """Of an Outcome or of Sums, whichever the objective makes; of resamples of them one value each."""
    higher_is_better: bool
    meaning: str
    """One short sentence for whoever reads the number."""
    bounds: tuple[float, float] = (-inf, inf)
    """The lowest and the highest value that it can have."""
    of_text: bool = False
    """Whether it is taken of text that the model writes, so that validation in between does not know it."""
    by_class: bool = False
    """Whether it averages over classes, so that it is known no better than the rarest of them."""
    folded: str | None = None
    """The total whose absolute values it adds up: chance alone lifts such a metric above 0."""
