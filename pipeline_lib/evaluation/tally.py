"""Precision, recall and F1 of counts by class, whatever is counted: rows, or spans."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import Any, Literal, NamedTuple

import numpy as np

Measure = Literal["precision", "recall", "f1"]
MEASURES: tuple[Measure, ...] = ("precision", "recall", "f1")


class Tally(NamedTuple):
    """Counts by class, int64 [K] each: those of the class, those guessed as the class, those that are both.

    A ratio with nothing below the line is 0, as in scikit-learn.
    """

    gold: np.ndarray
    guess: np.ndarray
    hits: np.ndarray

    @property
    def precision(self) -> np.ndarray:
        """[K] share of the guesses that are right."""
        return _ratio(self.hits, self.guess)

    @property
    def recall(self) -> np.ndarray:
        """[K] share of what is there that was found."""
        return _ratio(self.hits, self.gold)

    @property
    def f1(self) -> np.ndarray:
        """[K] the harmonic mean of both."""
        return _ratio(2 * self.hits, self.gold + self.guess)

    @property
    def present(self) -> np.ndarray:
        """[K] bool: whether a class is in gold or guess; of others nothing is known."""
        return self.gold + self.guess > 0

    @property
    def pooled(self) -> Tally:
        """All classes as if they were one."""
        return Tally(*(counts.sum(keepdims=True) for counts in self))

    def mean(self, measure: Measure, whole: Tally | None = None) -> float:
        """The mean over the classes that are present, each counting the same; nan where there are none.

        Of a resample, `whole` has the counts of all rows: its classes are averaged, those that the resample happens to
        miss by their value there. Without them the resample would be of another, easier task.
        """
        whole = whole or self
        values = np.where(self.present, getattr(self, measure), getattr(whole, measure))[whole.present]
        return float(np.mean(values)) if np.size(values) else nan

    def records(self, labels: Sequence[str]) -> list[dict[str, Any]]:
        """One record a class, in the order of `labels` [K]: label, precision, recall, f1, support (its gold count).

        The three measures are nan for a class that is not present. Raises ValueError unless there are K labels.
        """
        measures = (np.where(self.present, getattr(self, measure), nan).tolist() for measure in MEASURES)
        columns = zip(labels, *measures, self.gold.tolist(), strict=True)
        return [dict(zip(("label", *MEASURES, "support"), values, strict=True)) for values in columns]


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.zeros(np.shape(above)), where=below > 0)
