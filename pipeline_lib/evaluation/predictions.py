"""A model's predictions beside the gold answers, and metrics as functions of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from pipeline_lib.evaluation.metrics.class_counts import ClassCounts, tally_of
from pipeline_lib.evaluation.totals import Totals

BINS = 15
"""Equal-width bins of confidence, as in Guo et al. (2017), table 1."""


class RowValues(Totals):
    """Totals whose values are known for each row."""

    groups: np.ndarray | None

    def __len__(self) -> int:
        raise NotImplementedError

    def same_answers(self, other: object) -> bool:
        """Whether all rows equal those of another model."""
        raise NotImplementedError

    def row_values(self, name: str) -> Any:
        """The values of this name by row: [n] or [n, k], dense or a SciPy sparse array."""
        if name not in self._row_values:
            self._row_values[name] = np.ones(len(self)) if name == "rows" else self._values(name)
        return self._row_values[name]

    def total(self, name: str) -> np.ndarray:
        """The sum of the values over rows: a number or [k]."""
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

    @cached_property
    def group_of_row(self) -> np.ndarray:
        """[n] group index of each row, from 0; without known groups every row is its own group."""
        if self.groups is None:
            return np.arange(len(self))
        return np.unique(self.groups, return_inverse=True)[1].reshape(-1)

    @property
    def group_count(self) -> int:
        """The number of groups."""
        return int(self.group_of_row.max(initial=-1)) + 1


@dataclass(frozen=True, eq=False)
class Predictions(RowValues):
    """Gold answers and a model's predictions for n rows and K classes.

    - one label per row: `gold` and `guess` [n] class index, `probabilities` [n, K];
    - several labels per row: `gold` and `guess` [n, K] of 0 and 1, stored as bool, `probabilities` [n, K];
    - one number per row: `gold` and `guess` [n] in the unit of the data, `probabilities` None.

    Raises:
        ValueError: If the arrays differ in their number of rows.
    """

    gold: np.ndarray
    guess: np.ndarray
    probabilities: np.ndarray | None = None
    groups: np.ndarray | None = None
    """[n] equal for rows that belong together (one document, user, thread) and so are not independent."""

    def __post_init__(self):
        arrays = (array for array in (self.gold, self.guess, self.probabilities) if array is not None)
        lengths = {len(array) for array in arrays}
        if len(lengths) > 1:
            raise ValueError(f"gold, guess and probabilities differ in their number of rows: {sorted(lengths)}")
        if self.multi_label:  # one byte per decision instead of eight
            for part in ("gold", "guess"):
                object.__setattr__(self, part, getattr(self, part).astype(bool, copy=False))

    def __len__(self) -> int:
        return len(self.gold)

    def take(self, rows: np.ndarray) -> Predictions:
        """Select rows by index; indices may repeat and come in any order."""
        probabilities = None if self.probabilities is None else self.probabilities[rows]
        groups = None if self.groups is None else self.groups[rows]
        return Predictions(self.gold[rows], self.guess[rows], probabilities, groups)

    def with_groups(self, groups: np.ndarray) -> Predictions:
        """The same rows with these groups [n]."""
        return replace(self, groups=groups)

    def same_answers(self, other: object) -> bool:
        """Whether gold, guess and probabilities equal those of other predictions."""
        if not isinstance(other, Predictions):
            return False
        if self.probabilities is None or other.probabilities is None:
            same = self.probabilities is other.probabilities
        else:
            same = np.array_equal(self.probabilities, other.probabilities)
        return same and np.array_equal(self.gold, other.gold) and np.array_equal(self.guess, other.guess)

    @property
    def chances(self) -> np.ndarray:
        """The probabilities [n, K]; raises ValueError for regression, which has none."""
        if self.probabilities is None:
            raise ValueError("class probabilities are needed, but these predictions have none")
        return self.probabilities

    @property
    def multi_label(self) -> bool:
        """Whether a row can have several labels."""
        return self.gold.ndim == 2

    @property
    def one_label(self) -> bool:
        """Whether each row has exactly one label."""
        return self.probabilities is not None and not self.multi_label

    @property
    def tally(self) -> ClassCounts:
        """Gold, predicted and correct counts per class."""
        return tally_of(self)

    @property
    def confidence(self) -> np.ndarray:
        """The probability that the model gave to its own decisions, right or wrong: [n], or [n, K]."""
        if self.multi_label:
            return np.where(self.guess, self.chances, 1 - self.chances)
        return self.chances[np.arange(len(self)), self.guess]

    @property
    def gaps(self) -> np.ndarray:
        """[n, BINS]: for each row and confidence bin, the sum of (1 if right else 0) - confidence over decisions."""
        confidence, right = self.confidence, self.gold == self.guess
        # one flat index for (row, bin), so that a single bincount sums all cells
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
        """[n, K] 1 where the class is the row's gold label, its prediction, or both, depending on `name`."""
        if self.multi_label:
            return {"gold": self.gold, "guess": self.guess, "hits": self.gold & self.guess}[name].astype(np.float64)
        from scipy.sparse import csr_array

        rows = np.flatnonzero(self.gold == self.guess) if name == "hits" else np.arange(len(self))
        classes = (self.guess if name == "guess" else self.gold)[rows]
        return csr_array((np.ones(len(rows)), (rows, classes)), shape=(len(self), self.chances.shape[1]))

    def _moments(self, name: str) -> np.ndarray:
        """Row values for the metrics of regression."""
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
    """[n, 5] x, y, x^2, y^2 and xy, whose sums give a correlation.

    Both are shifted by their medians, so that large numbers lose no digits and a constant becomes exactly 0.
    """
    if len(x):
        x, y = x - np.median(x), y - np.median(y)
    return np.stack([x, y, x * x, y * y, x * y], axis=1)


def calibration_bin(confidence: np.ndarray) -> np.ndarray:
    """The bin index of each confidence: bin m is (m / BINS, (m + 1) / BINS], and bin 0 also contains 0."""
    return np.clip(np.ceil(confidence * BINS).astype(np.intp) - 1, 0, BINS - 1)


@dataclass(frozen=True, eq=False)
class RowCounts(RowValues):
    """Named counts per row, [n] or [n, k] each; metrics only need their sums over rows."""

    counts: Mapping[str, np.ndarray]
    groups: np.ndarray | None = None
    """[n] equal for rows that belong together."""

    def __len__(self) -> int:
        return len(next(iter(self.counts.values())))

    def take(self, rows: np.ndarray) -> RowCounts:
        """Select rows by index; indices may repeat and come in any order."""
        groups = None if self.groups is None else self.groups[rows]
        return RowCounts({name: values[rows] for name, values in self.counts.items()}, groups)

    def with_groups(self, groups: np.ndarray) -> RowCounts:
        """The same rows with these groups [n]."""
        return replace(self, groups=groups)

    def same_answers(self, other: object) -> bool:
        """Whether all counts equal those of other predictions."""
        if not isinstance(other, RowCounts) or self.counts.keys() != other.counts.keys():
            return False
        return all(np.array_equal(values, other.counts[name]) for name, values in self.counts.items())

    def _values(self, name: str) -> np.ndarray:
        return self.counts[name]


@dataclass(frozen=True)
class Metric:
    """A measure of the quality of predictions; nan if the rows do not define it."""

    function: Callable[[Any], Any]
    """Takes Predictions or RowCounts, depending on the objective; for resamples it returns one value each."""
    higher_is_better: bool
    meaning: str
    """A short explanation for readers of the report."""
    bounds: tuple[float, float]
    """The lowest and the highest possible value; no interval goes beyond them."""
    of_text: bool = False
    """Whether it needs generated text; such metrics are not available to validation during training."""
    by_class: bool = False
    """Whether it averages over classes, so that its precision is limited by the rarest class."""
    folded: str | None = None
    """The total whose absolute values the metric sums; chance alone lifts such a metric above 0."""
