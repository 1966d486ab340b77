"""Precision, recall and F1 from counts per class, of rows or of spans."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import Any, Literal, NamedTuple

import numpy as np

from pipeline_lib.evaluation.totals import Totals, ratio

Measure = Literal["precision", "recall", "f1"]
MEASURES: tuple[Measure, ...] = ("precision", "recall", "f1")


class ClassCounts(NamedTuple):
    """Counts per class, [K] or [resamples, K] each: gold, predicted (`guess`), and both (`hits`).

    A ratio with denominator 0 is 0, as in scikit-learn.
    """

    gold: np.ndarray
    guess: np.ndarray
    hits: np.ndarray

    @property
    def precision(self) -> np.ndarray:
        """[..., K] share of the predictions that are right."""
        return ratio(self.hits, self.guess, 0.0)

    @property
    def recall(self) -> np.ndarray:
        """[..., K] share of the gold items that were found."""
        return ratio(self.hits, self.gold, 0.0)

    @property
    def f1(self) -> np.ndarray:
        """[..., K] harmonic mean of precision and recall."""
        return ratio(2 * self.hits, self.gold + self.guess, 0.0)

    @property
    def present(self) -> np.ndarray:
        """[..., K] bool: whether a class occurs in gold or guess; otherwise its measures are undefined."""
        return self.gold + self.guess > 0

    @property
    def pooled(self) -> ClassCounts:
        """The counts summed over classes, as a single class (for micro averages)."""
        return ClassCounts(*(counts.sum(axis=-1, keepdims=True) for counts in self))

    def mean(self, measure: Measure) -> Any:
        """The macro average: the unweighted mean over the classes that are present; nan if there are none."""
        present = self.present
        total, count = np.where(present, getattr(self, measure), 0).sum(axis=-1), present.sum(axis=-1)
        return ratio(total, count, nan)

    def records(self, labels: Sequence[str]) -> list[dict[str, Any]]:
        """One record per class, in the order of `labels` [K]: label, precision, recall, f1, support (its gold count).

        The three measures are nan for a class that is not present.

        Raises:
            ValueError: Unless there are K labels.
        """
        measures = (np.where(self.present, getattr(self, measure), nan).tolist() for measure in MEASURES)
        columns = zip(labels, *measures, self.gold.astype(int).tolist(), strict=True)
        return [dict(zip(("label", *MEASURES, "support"), values, strict=True)) for values in columns]


def tally_of(totals: Totals) -> ClassCounts:
    """The counts per class of predictions, or of resamples of them."""
    return ClassCounts(*(totals.total(name) for name in ClassCounts._fields))
