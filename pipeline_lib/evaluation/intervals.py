"""How sure a score is: an interval around each metric, from the rows alone."""

from collections.abc import Iterator, Mapping
from math import isfinite, nan
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

    All metrics are taken on the same resamples, which keep the classes of the test set. Those where a metric is nan are
    left out of its interval. Resamples hold fewer different rows than the test set, by which some metrics are always
    higher or lower there (the calibration error, averages over rare classes). Such a bias is taken off the draws once,
    so that they lie around the score, and twice, as the score has it too (Efron & Tibshirani, chapter 10); the interval
    holds both, and the score. The ends are nan where no resample is left, and for a single row, which says nothing of
    how rows vary.
    It speaks of other rows from the same source, not of other seeds of the training.
    """
    value = {name: metric.function(outcome) for name, metric in metrics.items()}
    drawn = [[metric.function(sample) for metric in metrics.values()] for sample in _samples(outcome, resamples, seed)]
    columns = np.array(drawn, dtype=float).reshape(len(drawn), len(metrics)).T
    known = zip(metrics.items(), columns, strict=True)
    return {
        name: Score(value[name], *_ends(column, level, value[name], metric.bounds)) for (name, metric), column in known
    }


def _samples(outcome: Outcome | Sums, resamples: int, seed: int) -> Iterator[Outcome | Sums]:
    rows, random = len(outcome), np.random.default_rng(seed)
    for _ in range(resamples if rows > 1 else 0):
        yield outcome.resample(random.integers(0, rows, size=rows))


def _ends(values: np.ndarray, level: float, value: float, bounds: tuple[float, float]) -> tuple[float, float]:
    values = values[np.isfinite(values)]
    if not len(values) or not isfinite(value):
        return nan, nan
    bias = np.mean(values) - value
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    low, high = np.clip([low - max(bias, 2 * bias), high - min(bias, 2 * bias)], *bounds)
    return min(float(low), value), max(float(high), value)
