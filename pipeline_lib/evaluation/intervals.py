"""How sure a score is: an interval around each metric, from the rows alone."""

from collections.abc import Iterator, Mapping
from math import nan
from typing import NamedTuple

import numpy as np

from pipeline_lib.evaluation.outcome import Metric, Outcome, Sums


class Score(NamedTuple):
    """A metric on the rows as they are, and the ends of its interval; in the metric's unit."""

    value: float
    low: float
    high: float


def bootstrap(
    outcome: Outcome | Sums, metrics: Mapping[str, Metric], level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> dict[str, Score]:
    """Percentile bootstrap over rows: Efron & Tibshirani (1993), "An Introduction to the Bootstrap", section 13.3.

    All metrics are taken on the same resamples. Those where a metric is nan are left out of its interval. The ends
    are nan where none is left, and for a single row, which says nothing of how rows vary.
    It speaks of other rows from the same source, not of other seeds of the training.
    """
    value = {name: metric.function(outcome) for name, metric in metrics.items()}
    drawn = [[metric.function(sample) for metric in metrics.values()] for sample in _samples(outcome, resamples, seed)]
    columns = np.array(drawn, dtype=float).reshape(len(drawn), len(metrics)).T
    return {name: Score(value[name], *_ends(column, level)) for name, column in zip(metrics, columns, strict=True)}


def _samples(outcome: Outcome | Sums, resamples: int, seed: int) -> Iterator[Outcome | Sums]:
    rows, random = len(outcome), np.random.default_rng(seed)
    for _ in range(resamples if rows > 1 else 0):
        yield outcome.take(random.integers(0, rows, size=rows))


def _ends(values: np.ndarray, level: float) -> tuple[float, float]:
    values = values[~np.isnan(values)]
    if not len(values):
        return nan, nan
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
