"""Resamples of an outcome: its rows, weighted at random.

The Bayesian bootstrap, Rubin (1981), "The Bayesian Bootstrap": weights are drawn from a Dirichlet distribution, so that
no row is ever left out and a class of few rows keeps them all. Rows of one group get one weight (Field & Welsh 2007,
"Bootstrapping Clustered Data": the cluster bootstrap), as they vary together.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pipeline_lib.evaluation.predictions import Predictions, RowValues, moments
from pipeline_lib.evaluation.statistics.smoothing import AddedAnswers, added_answers, class_counts
from pipeline_lib.evaluation.totals import Totals

CELLS = 2**22
"""Random numbers that are held at once."""
SMALLEST_SHAPE = 0.2


@dataclass(frozen=True, eq=False)
class Resamples(Totals):
    """Resamples of rows: `weights` [resamples, n], and those of the added answers [resamples, m]."""

    rows: RowValues
    weights: np.ndarray
    added: AddedAnswers
    added_weights: np.ndarray

    def total(self, name: str) -> np.ndarray:
        """[resamples] or [resamples, k]."""
        if name not in self._totals:
            self._totals[name] = self._rank_moments() if name == "rank_moments" else self._sum(name)
        return self._totals[name]

    @cached_property
    def _totals(self) -> dict[str, np.ndarray]:
        return {}

    def _sum(self, name: str) -> np.ndarray:
        of_rows = np.asarray(self.weights @ self.rows.row_values(name))
        return of_rows + self.added_weights @ self.added.of(name, self.rows) if len(self.added.weights) else of_rows

    def _rank_moments(self) -> np.ndarray:
        """Ranks depend on the weights: a row's is the weight of the rows below it, and half of that of its ties."""
        assert isinstance(self.rows, Predictions)
        gold, guess = (_weighted_ranks(values, self.weights) for values in (self.rows.gold, self.rows.guess))
        return np.array([w @ moments(x, y) for w, x, y in zip(self.weights, gold, guess, strict=True)])


def _weighted_ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    _, place = np.unique(values, return_inverse=True)
    place = place.reshape(-1)
    order = np.argsort(place, kind="stable")
    begins = np.flatnonzero(np.append(True, np.diff(place[order]) > 0)[: len(order)])
    of_value = np.add.reduceat(weights[:, order], begins, axis=1)
    below = np.cumsum(of_value, axis=1) - of_value
    return (below + of_value / 2)[:, place]


@dataclass(frozen=True, eq=False)
class Resampler:
    """Draws weights for the rows of one or more outcomes of the same n rows, in their groups.

    A weight is a gamma variable with mean 1 and variance c / (c - 2), where c is the number of groups, or of those
    that have the rarest of a group's classes: what c rows show of their variance is too small by that factor.
    """

    group_of_row: np.ndarray
    shapes: np.ndarray
    """[groups] of the gamma distribution."""

    @classmethod
    def of(cls, rows: RowValues) -> "Resampler":
        """For the rows of an outcome, and for others of the same rows in the same groups."""
        group_of_row = rows.group_of_row
        groups = int(group_of_row.max(initial=-1)) + 1
        fewest = np.full(groups, max(groups, 1), float)
        counts = class_counts(rows)
        if counts is not None and len(rows):
            row, label = counts.nonzero()
            pairs = np.unique(np.stack([group_of_row[row], label]), axis=1)
            having = np.bincount(pairs[1]) if pairs.size else np.zeros(0)
            np.minimum.at(fewest, pairs[0], having[pairs[1]])
        return cls(group_of_row, np.maximum((fewest - 2) / fewest, SMALLEST_SHAPE))

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return len(self.shapes)

    def draw(self, random: np.random.Generator, resamples: int) -> Iterator[np.ndarray]:
        """Weights [some, n], until there are as many as asked for."""
        at_once = max(1, CELLS // max(1, len(self.group_of_row)))
        for begin in range(0, resamples, at_once):
            size = (min(at_once, resamples - begin), self.groups)
            yield (random.standard_gamma(self.shapes, size) / self.shapes)[:, self.group_of_row]


def resample(rows: RowValues, weights: np.ndarray, random: np.random.Generator) -> Resamples:
    """The resamples with these weights; those of the added answers are drawn for each outcome apart."""
    added = added_answers(rows)
    return Resamples(rows, weights, added, random.standard_gamma(added.weights, (len(weights), len(added.weights))))


def centre(rows: RowValues) -> Resamples:
    """One resample with the mean weights: where resamples would lie if a metric were linear."""
    added = added_answers(rows)
    return Resamples(rows, np.ones((1, len(rows))), added, added.weights[None])


def evaluate(function: Any, totals: Totals, count: int) -> np.ndarray:
    """[count] a metric of resamples; one that is the same for all is a number."""
    return np.broadcast_to(np.asarray(function(totals), float), (count,))


def expansion(level: float, groups: int) -> float:
    """By how much Student's t lies further out than the normal distribution, where there are few groups."""
    from scipy.stats import norm, t

    tail = (1 + level) / 2
    return float(t.ppf(tail, max(groups - 1, 1)) / norm.ppf(tail))
