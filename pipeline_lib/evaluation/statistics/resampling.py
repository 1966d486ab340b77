"""Resamples of predictions, as random weights of their rows.

The Bayesian bootstrap, Rubin (1981), "The Bayesian Bootstrap": weights are drawn from a Dirichlet distribution, so that
no row is ever left out and small classes keep all their rows. All rows of a group get the same weight, because they
are not independent (Field & Welsh 2007, "Bootstrapping Clustered Data": the cluster bootstrap).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np

from pipeline_lib.evaluation.predictions import Predictions, RowValues, moments
from pipeline_lib.evaluation.statistics.smoothing import AddedAnswers, answers_to_add, class_groups
from pipeline_lib.evaluation.totals import Totals

CELLS = 2**22
"""Maximum random numbers in memory."""
QUANTILE: Final = "weibull"
"""Quantiles of B resamples are those of order statistics k / (B + 1): others leave too much outside if B is small."""
FEWEST_PREDICTED = 8
"""Groups that a predicted class counts for at least: how often a rare class is predicted is chance as well, and smaller
numbers made intervals too wide (tests/benchmarks/coverage.py)."""
SMALLEST_SHAPE = 0.2
"""Lower limit of the gamma distribution's shape, for groups with very rare classes."""


@dataclass(frozen=True, eq=False)
class Resamples(Totals):
    """Resamples of rows: `weights` [resamples, n], and those of the added answers [resamples, m]."""

    rows: RowValues
    weights: np.ndarray
    added: AddedAnswers
    added_weights: np.ndarray

    def total(self, name: str) -> np.ndarray:
        """The weighted sum of this name for each resample: [resamples] or [resamples, k]."""
        if name not in self._totals:
            self._totals[name] = self._rank_moments() if name == "rank_moments" else self._sum(name)
        return self._totals[name]

    @cached_property
    def _totals(self) -> dict[str, np.ndarray]:
        return {}

    def _sum(self, name: str) -> np.ndarray:
        of_rows = np.asarray(self.weights @ self.rows.row_values(name))
        return (
            of_rows + self.added_weights @ self.added.values_of(name, self.rows) if len(self.added.weights) else of_rows
        )

    def _rank_moments(self) -> np.ndarray:
        """Moments of ranks, which depend on the weights: the weight of all lower rows plus half that of ties."""
        assert isinstance(self.rows, Predictions)
        gold, guess = (_weighted_ranks(values, self.weights) for values in (self.rows.gold, self.rows.guess))
        return np.array([w @ moments(x, y) for w, x, y in zip(self.weights, gold, guess, strict=True)])


def _weighted_ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[resamples, n] ranks of values [n] under weights [resamples, n]."""
    _, value_index = np.unique(values, return_inverse=True)
    value_index = value_index.reshape(-1)
    order = np.argsort(value_index, kind="stable")
    # where each distinct value begins among the sorted rows, so that reduceat sums the weights of its ties
    begins = np.flatnonzero(np.append(True, np.diff(value_index[order]) > 0)[: len(order)])
    value_weight = np.add.reduceat(weights[:, order], begins, axis=1)
    below = np.cumsum(value_weight, axis=1) - value_weight
    return (below + value_weight / 2)[:, value_index]


class Weights(NamedTuple):
    """Row weights [resamples, n] of the same resamples, for two kinds of metrics."""

    pooled: np.ndarray
    """For metrics over all rows."""
    by_class: np.ndarray
    """For averages over classes, which vary more if a class is rare."""


@dataclass(frozen=True, eq=False)
class Resampler:
    """Draws group weights for one or more predictions of the same n rows.

    A weight is a gamma variable with mean 1 and variance c / (c - 2), because c rows underestimate their variance by
    that factor. Here c is the number of all groups, and for averages over classes the number of groups that contain
    the rarest of the group's gold and predicted classes.
    """

    group_of_row: np.ndarray
    shape: float
    """The shape of the gamma distribution for metrics over all rows."""
    class_shapes: np.ndarray
    """[groups] its shapes for averages over classes, at most `shape`."""

    @classmethod
    def from_rows(cls, *outcomes: RowValues) -> "Resampler":
        """Create a resampler for predictions of the same rows; their groups are those of the one with the fewest."""
        group_of_row = min(outcomes, key=lambda rows: rows.group_count).group_of_row
        groups = int(group_of_row.max(initial=-1)) + 1
        fewest = np.full(groups, max(groups, 1), float)
        for rows in outcomes:
            for name in ("gold", "guess"):
                if (classes := class_groups(rows, group_of_row, name)) is None:
                    continue
                pairs, groups_of_class = classes
                least = FEWEST_PREDICTED if name == "guess" else 0
                # per group, over its classes
                np.minimum.at(fewest, pairs[0], np.maximum(groups_of_class, least)[pairs[1]])
        return cls(group_of_row, float(_shape(np.float64(max(groups, 1)))), _shape(fewest))

    @property
    def groups(self) -> int:
        """The number of groups."""
        return len(self.class_shapes)

    def draw(self, random: np.random.Generator, resamples: int) -> Iterator[Weights]:
        """Yield weights of [chunk, n] until all resamples are drawn, in chunks that bound memory."""
        at_once = max(1, CELLS // max(1, len(self.group_of_row)))
        for begin in range(0, resamples, at_once):
            size = (min(at_once, resamples - begin), self.groups)
            drawn = random.standard_gamma(self.class_shapes, size)
            # gamma variables of the same scale add up, shapes included: so both kinds of weights go together
            pooled = drawn + random.standard_gamma(self.shape - self.class_shapes, size)
            yield Weights(
                (pooled / self.shape)[:, self.group_of_row], (drawn / self.class_shapes)[:, self.group_of_row]
            )


def _shape(groups: Any) -> Any:
    """Return the shape of the gamma distribution for a number of groups."""
    return np.maximum((groups - 2) / groups, SMALLEST_SHAPE)


def resample(rows: RowValues, weights: np.ndarray, random: np.random.Generator) -> Resamples:
    """Resamples with these row weights; weights of added answers are drawn independently for each call."""
    added = answers_to_add(rows)
    return Resamples(rows, weights, added, random.standard_gamma(added.weights, (len(weights), len(added.weights))))


def centre(rows: RowValues) -> Resamples:
    """One resample with the mean weights: the mean of all resamples if the metric were linear."""
    added = answers_to_add(rows)
    return Resamples(rows, np.ones((1, len(rows))), added, added.weights[None])


def evaluate_resamples(function: Any, totals: Totals, count: int) -> np.ndarray:
    """[count] values of a metric on resamples; a metric may return one number for all of them."""
    return np.broadcast_to(np.asarray(function(totals), float), (count,))


def expansion(level: float, groups: int) -> float:
    """The ratio of the critical values of Student's t and of the normal distribution; larger for few groups."""
    from scipy.stats import norm, t

    tail = (1 + level) / 2
    return float(t.ppf(tail, max(groups - 1, 1)) / norm.ppf(tail))
