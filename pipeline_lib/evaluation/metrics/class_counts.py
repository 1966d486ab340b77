"""Precision, recall and F1 of counts by class, whatever is counted: rows, or spans."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from pipeline_lib.evaluation.totals import Totals

Measure = Literal["precision", "recall", "f1"]
MEASURES: tuple[Measure, ...] = ("precision", "recall", "f1")


class ClassCounts(NamedTuple):
    """Counts by class, [K] or [resamples, K] each: those of the class, those guessed as it, those that are both.

    A ratio with nothing below the line is 0, as in scikit-learn.
    """

    gold: np.ndarray
    guess: np.ndarray
    hits: np.ndarray

    @property
    def precision(self) -> np.ndarray:
        """[..., K] share of the guesses that are right."""
        return _ratio(self.hits, self.guess)

    @property
    def recall(self) -> np.ndarray:
        """[..., K] share of what is there that was found."""
        return _ratio(self.hits, self.gold)

    @property
    def f1(self) -> np.ndarray:
        """[..., K] the harmonic mean of both."""
        return _ratio(2 * self.hits, self.gold + self.guess)

    @property
    def present(self) -> np.ndarray:
        """[..., K] bool: whether a class is in gold or guess; of others nothing is known."""
        return self.gold + self.guess > 0

    @property
    def pooled(self) -> ClassCounts:
        """All classes as if they were one."""
        return ClassCounts(*(counts.sum(axis=-1, keepdims=True) for counts in self))

    def mean(self, measure: Measure) -> Any:
        """The mean over the classes that are present, each counting the same; nan where there are none."""
        present = self.present
        known, count = np.where(present, getattr(self, measure), 0).sum(axis=-1), present.sum(axis=-1)
        return np.divide(known, count, out=np.full(np.shape(known), nan), where=count > 0)[()]

    def records(self, labels: Sequence[str]) -> list[dict[str, Any]]:
        """One record a class, in the order of `labels` [K]: label, precision, recall, f1, support (its gold count).

        The three measures are nan for a class that is not present. Raises ValueError unless there are K labels.
        """
        measures = (np.where(self.present, getattr(self, measure), nan).tolist() for measure in MEASURES)
        columns = zip(labels, *measures, self.gold.astype(int).tolist(), strict=True)
        return [dict(zip(("label", *MEASURES, "support"), values, strict=True)) for values in columns]


def tally_of(totals: Totals) -> ClassCounts:
    """The counts by class of an outcome, or of resamples of it."""
    return ClassCounts(*(totals.total(name) for name in ClassCounts._fields))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.zeros(np.shape(above)), where=below > 0)
