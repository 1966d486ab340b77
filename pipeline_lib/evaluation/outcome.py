"""What a model answered to a set of rows, and what a metric is: a function of that, and how to read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import inf, nan
from typing import Any

import numpy as np

from pipeline_lib.evaluation.tally import Tally

BINS = 15
"""Equal-width bins of confidence, as in Guo et al. (2017), table 1."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """Gold answers beside a model's, row by row, n rows and K classes.

    - one label a row: `gold` and `guess` [n] class index, `probabilities` [n, K];
    - several labels a row: `gold` and `guess` [n, K] of 0 and 1, kept as bool, `probabilities` [n, K];
    - a number a row: `gold` and `guess` [n] in the unit of the data, `probabilities` None.

    Raises ValueError where the three do not have the same number of rows.
    """

    gold: np.ndarray
    guess: np.ndarray
    probabilities: np.ndarray | None = None
    whole: Outcome | None = None
    """What this is a resample of: its classes are those of the test set, whichever the resample happens to hold."""

    def __post_init__(self):
        known = (part for part in (self.gold, self.guess, self.probabilities) if part is not None)
        if len(lengths := {len(part) for part in known}) > 1:
            raise ValueError(f"gold, guess and probabilities differ in their number of rows: {sorted(lengths)}")
        if self.multi_label:  # a byte a decision, not eight: the bootstrap copies them a thousand times
            for part in ("gold", "guess"):
                object.__setattr__(self, part, getattr(self, part).astype(bool, copy=False))

    def __len__(self) -> int:
        return len(self.gold)

    def take(self, rows: np.ndarray, whole: Outcome | None = None) -> Outcome:
        """The rows at these indices, in this order and as often as they are named."""
        probabilities = None if self.probabilities is None else self.probabilities[rows]
        taken = Outcome(self.gold[rows], self.guess[rows], probabilities, whole)
        if "gaps" in vars(self):  # worked out row by row already: gathered, or the bootstrap would bin n * K values
            vars(taken)["gaps"] = self.gaps[rows]  # for each resample
        return taken

    def resample(self, rows: np.ndarray) -> Outcome:
        """A resample of these rows, which keeps the set of classes."""
        return self.take(rows, self)

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

    @cached_property
    def tally(self) -> Tally:
        """Counts by class; what most metrics are made of, so counted once."""
        if self.multi_label:
            return Tally(*(np.count_nonzero(each, axis=0) for each in (self.gold, self.guess, self.gold & self.guess)))
        hits = self.gold[self.gold == self.guess]
        classes = self.chances.shape[1]
        return Tally(*(np.bincount(each, minlength=classes) for each in (self.gold, self.guess, hits)))

    @property
    def confidence(self) -> np.ndarray:
        """The probability that the model gave to each of its decisions, right or wrong: [n], or [n, K]."""
        if self.multi_label:
            return np.where(self.guess, self.chances, 1 - self.chances)
        return self.chances[np.arange(len(self)), self.guess]

    @cached_property
    def gaps(self) -> np.ndarray:
        """[n, BINS]: a row's decisions in each bin of confidence, summed as (1 if right else 0) - confidence."""
        confidence, right = self.confidence, self.gold == self.guess
        cells = calibration_bin(confidence) + BINS * np.arange(len(self)).reshape((-1,) + (1,) * (right.ndim - 1))
        sums = np.bincount(cells.ravel(), (right - confidence).ravel(), minlength=BINS * len(self))
        return sums.reshape(len(self), BINS)


def calibration_bin(confidence: np.ndarray) -> np.ndarray:
    """The bin, from 0, of each confidence: bin m holds (m / BINS, (m + 1) / BINS], the first one 0 as well."""
    return np.clip(np.ceil(confidence * BINS).astype(np.intp) - 1, 0, BINS - 1)


@dataclass(frozen=True, eq=False)
class Sums:
    """Counts by row, [n] or [n, k] each by name, of which every metric needs nothing but the sums over rows."""

    counts: Mapping[str, np.ndarray]
    whole: Sums | None = None
    """What this is a resample of."""

    def __len__(self) -> int:
        return len(next(iter(self.counts.values())))

    def take(self, rows: np.ndarray) -> Sums:
        """The rows at these indices, in this order and as often as they are named."""
        return Sums({name: values[rows] for name, values in self.counts.items()})

    def resample(self, rows: np.ndarray) -> Sums:
        """A resample of these rows, which knows what it was drawn from."""
        return Sums({name: values[rows] for name, values in self.counts.items()}, self)

    def total(self, name: str) -> np.ndarray:
        """The sum over rows, a number or [k]."""
        if name not in self._totals:
            self._totals[name] = self.counts[name].sum(axis=0)
        return self._totals[name]

    @cached_property
    def _totals(self) -> dict[str, np.ndarray]:
        """Sums that were asked for: of the whole they are needed for each of its resamples."""
        return {}

    def mean(self, name: str) -> float:
        """The mean over rows of counts [n]; nan where there are none."""
        return float(self.counts[name].mean()) if len(self) else nan


@dataclass(frozen=True)
class Metric:
    """A number that says how good an outcome is; nan where the rows do not define it."""

    function: Callable[[Any], float]
    """Of an Outcome or of Sums, whichever the objective makes."""
    higher_is_better: bool
    meaning: str
    """One short sentence for whoever reads the number."""
    bounds: tuple[float, float] = (-inf, inf)
    """The lowest and the highest value that it can have."""
    of_text: bool = False
    """Whether it is taken of text that the model writes, so that validation in between does not know it."""
