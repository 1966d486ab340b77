"""Degrees of freedom of the intervals of metrics: the fewer rows decide how much a metric varies, the fewer."""

from collections.abc import Mapping

import numpy as np

from pipeline_lib.evaluation.predictions import Metric, Predictions, RowCounts
from pipeline_lib.evaluation.statistics.resampling import CELLS, Resamples, evaluate_resamples
from pipeline_lib.evaluation.statistics.smoothing import AddedAnswers, answers_to_add

SAMPLED = 200
"""Number of groups by whose influence the kurtosis is estimated."""


def degrees_of_freedom(outcome: Predictions | RowCounts, metrics: Mapping[str, Metric]) -> np.ndarray:
    """Return the degrees of freedom [metrics] of Student's t for the interval of each metric.

    A variance that is estimated from n values of kurtosis k is as uncertain as that of 2n / (k - (n - 3) / (n - 1))
    normal values: O'Neill (2014), "Some Useful Moment Results in Sampling Problems". The values are the
    groups' influences on the metric, by the jackknife (Efron & Tibshirani 1993, chapter 11). Metrics that change with
    the answers added by `smoothing` have n - 1: the added answers already are what widens their intervals.
    """
    group_of_row, groups = outcome.group_of_row, outcome.group_count
    full = np.full(len(metrics), max(groups - 1.0, 1.0))
    if groups < 3:
        return full
    added = answers_to_add(outcome)
    plain = _values(outcome, metrics, np.ones((1, len(outcome))), added, 0.0)[0]
    smoothed = ~np.isclose(_values(outcome, metrics, np.ones((1, len(outcome))), added, 1.0)[0], plain, rtol=1e-9)
    sampled = np.random.default_rng(0).permutation(groups)[:SAMPLED]
    influences = plain - np.concatenate(
        [
            _values(outcome, metrics, (group_of_row != part[:, None]).astype(float), added, 0.0)
            for part in np.array_split(sampled, -(-len(sampled) * len(outcome) // CELLS))
        ]
    )
    influences -= influences.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        kurtosis = len(sampled) * (influences**4).sum(axis=0) / (influences**2).sum(axis=0) ** 2
        estimated = 2 * groups / (kurtosis - (groups - 3) / (groups - 1))
    estimated = np.where(np.isfinite(estimated) & (estimated > 0) & ~smoothed, estimated, full)
    return np.minimum(estimated, full)


def _values(
    outcome: Predictions | RowCounts,
    metrics: Mapping[str, Metric],
    weights: np.ndarray,
    added: AddedAnswers,
    share: float,
) -> np.ndarray:
    """[k, metrics] with row weights [k, n] and a share of the added answers."""
    resamples = Resamples(
        outcome, weights, added, np.broadcast_to(share * added.weights, (len(weights), len(added.weights)))
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = [evaluate_resamples(metric.function, resamples, len(weights)) for metric in metrics.values()]
    return np.stack(columns, axis=1) if columns else np.empty((len(weights), 0))
