"""Bootstrap intervals of metrics, and tests of whether models differ on the same rows beyond chance.

They account for the choice of rows from the same source, but for the training seed only if several are compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite, nan
from typing import NamedTuple

import numpy as np

from pipeline_lib.evaluation.predictions import Metric, Predictions, RowCounts, RowValues
from pipeline_lib.evaluation.statistics.degrees import degrees_of_freedom
from pipeline_lib.evaluation.statistics.folded import folded_interval
from pipeline_lib.evaluation.statistics.resampling import (
    QUANTILE,
    Resampler,
    Weights,
    centre,
    evaluate_resamples,
    expansion,
    resample,
)
from pipeline_lib.evaluation.statistics.smoothing import class_groups

RESAMPLES = 1000
FEWEST = 3
"""A metric averaged over classes gets an interval only if every class occurs in at least this many groups."""

Answers = Sequence[Predictions | RowCounts]
"""Predictions of one recipe for the same n rows: of one model, or of one for each training seed."""


class Score(NamedTuple):
    """A metric's value on the actual rows and the bounds of its interval, in the metric's unit."""

    value: float
    low: float
    high: float


class MetricDifference(NamedTuple):
    """A metric of A and B, and the difference B - A with the bounds of its interval, in the metric's unit."""

    a: float
    b: float
    value: float
    low: float
    high: float
    sure: bool
    """Whether it is beyond chance, corrected for all metrics that were compared."""
    error: float
    """Its standard error, enlarged for few groups."""


class Drawn(NamedTuple):
    """Metrics of several sides on the same rows."""

    values: np.ndarray
    """[sides, metrics] on the actual rows."""
    draws: np.ndarray
    """[resamples, sides, metrics], minus twice the bias of resampling, because the values are biased as well."""
    groups: int
    """Number of independent groups of rows, or of rows without groups."""


def bootstrap(
    outcome: Predictions | RowCounts,
    metrics: Mapping[str, Metric],
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Score]:
    """Compute every metric with its percentile interval, which always contains the value and respects its bounds.

    Efron & Tibshirani (1993), "An Introduction to the Bootstrap", section 13.3, corrected for the bias of resampling
    (chapter 10). The interval is nan if there is only one group, and for averages over classes if a class occurs in
    fewer than `FEWEST` groups: see `rare_classes`.
    """
    drawn = draw([[outcome]], metrics, seed, resamples)
    low, high = ends(drawn.draws[:, 0], level, degrees_of_freedom(outcome, metrics))
    has_rare_classes = rare_classes(outcome) > 0
    scores = {}
    for index, (name, metric) in enumerate(metrics.items()):
        value, limits = float(drawn.values[0, index]), (float(low[index]), float(high[index]))
        if metric.folded and drawn.groups > 1:
            limits = folded_interval(outcome, metric.folded, level, resamples, seed)
        if metric.by_class and has_rare_classes:
            limits = (nan, nan)
        scores[name] = _score(value, limits, metric.bounds)
    return scores


def rare_classes(outcome: RowValues) -> int:
    """Count the gold classes that occur in fewer than `FEWEST` groups.

    The variance of such a class cannot be estimated: with a single row, every resample has the same answer.
    """
    classes = class_groups(outcome, outcome.group_of_row)
    if classes is None:
        return 0
    _, groups_of_class = classes
    return int(np.count_nonzero((groups_of_class > 0) & (groups_of_class < FEWEST)))


def _score(value: float, limits: tuple[float, float], bounds: tuple[float, float]) -> Score:
    if not isfinite(value) or not all(map(isfinite, limits)):
        return Score(value, nan, nan)
    low, high = np.clip(limits, *bounds)
    return Score(value, min(float(low), value), max(float(high), value))


def compare_sides(
    a: Answers, b: Answers, metrics: Mapping[str, Metric], level: float = 0.95, seed: int = 0
) -> dict[str, MetricDifference]:
    """Compare two sides by a paired bootstrap (see `draw`).

    Returns:
        The difference B - A of each metric, by its name.

    Raises:
        ValueError: If the numbers of rows differ.
    """
    values, draws, groups = draw([a, b], metrics, seed)
    gaps, drawn = values[1] - values[0], draws[:, 1] - draws[:, 0]
    low, high = ends(drawn, level, groups - 1)
    errors = spreads(drawn) * expansion(level, groups)
    # one array [metrics] for each field of Difference, in its order
    fields = (*values, gaps, low, high, beyond_chance(gaps, drawn, level, groups), errors)
    records = zip(*(field.tolist() for field in fields), strict=True)
    return {name: MetricDifference(*record) for name, record in zip(metrics, records, strict=True)}


def draw(sides: Sequence[Answers], metrics: Mapping[str, Metric], seed: int = 0, resamples: int = RESAMPLES) -> Drawn:
    """Paired bootstrap: all sides are scored on the same resampled rows, so that hard rows are hard for all of them.

    Koehn (2004), "Statistical Significance Tests for Machine Translation Evaluation". With several seeds, a side's
    metric is their mean, and seeds are resampled along with rows: Sellam et al. (2022), "The MultiBERTs", section 3
    (Multi-Bootstrap, unpaired seeds); two or three seeds underestimate how much seeds vary. The answers added to each
    side (`smoothing`) are drawn independently, as Agresti & Min (2005), "Simple Improved Confidence Intervals for
    Comparing Matched Proportions", add pairs that differ; sides with the same answers
    have the same draws. Draws are nan if there is only one group.

    Raises:
        ValueError: If the numbers of rows differ.
    """
    outcomes = [outcome for side in sides for outcome in side]
    lengths = {len(outcome) for outcome in outcomes}
    if len(lengths) != 1:
        raise ValueError(f"the outcomes differ in their number of rows: {sorted(lengths)}")
    values = np.array([_means(side, metrics) for side in sides])
    resampler, random = Resampler.from_rows(*outcomes), np.random.default_rng(seed)
    if resampler.groups < 2:
        return Drawn(values, np.full((resamples, len(sides), len(metrics)), np.nan), resampler.groups)
    parts = [_metrics_of_resamples(sides, metrics, weights, random) for weights in resampler.draw(random, resamples)]
    draws = np.concatenate(parts) if parts else np.empty((0, len(sides), len(metrics)))
    expected = np.array([_centres(side, metrics) for side in sides])
    with np.errstate(invalid="ignore"):  # a metric can be nan in all resamples
        bias = _nan_mean(draws) - expected
    return Drawn(values, draws - 2 * np.nan_to_num(bias), resampler.groups)


def _metrics_of_resamples(
    sides: Sequence[Answers], metrics: Mapping[str, Metric], weights: Weights, random: np.random.Generator
) -> np.ndarray:
    """[resamples, sides, metrics] on resamples with these weights."""
    count = len(weights.pooled)
    draws = np.empty((count, len(sides), len(metrics)))
    for index, side in enumerate(sides):
        if (same := _first_equal(sides, index)) < index:
            draws[:, index] = draws[:, same]
            continue
        by_seed = np.stack([_evaluate_resamples(outcome, metrics, weights, random) for outcome in side])
        if len(side) == 1:
            draws[:, index] = by_seed[0]
            continue
        # [resamples, seeds] seeds drawn with replacement for each resample
        seeds = random.integers(0, len(side), (count, len(side)))
        draws[:, index] = by_seed[seeds, np.arange(count)[:, None]].mean(axis=1)
    return draws


def _first_equal(sides: Sequence[Answers], index: int) -> int:
    """The first side with the same answers as this one: the same model never differs from itself."""
    for earlier in range(index):
        if len(sides[earlier]) == len(sides[index]):
            pairs = zip(sides[earlier], sides[index], strict=True)
            if all(one.same_answers(other) for one, other in pairs):
                return earlier
    return index


def _evaluate_resamples(
    outcome: Predictions | RowCounts, metrics: Mapping[str, Metric], weights: Weights, random: np.random.Generator
) -> np.ndarray:
    """[resamples, metrics] of one model on resamples with these weights."""
    pooled = resample(outcome, weights.pooled, random)
    by_class = replace(pooled, weights=weights.by_class)
    count = len(weights.pooled)
    columns = []
    with np.errstate(divide="ignore", invalid="ignore"):
        for metric in metrics.values():
            columns.append(evaluate_resamples(metric.function, by_class if metric.by_class else pooled, count))
    return np.stack(columns, axis=1) if columns else np.empty((count, 0))


def _means(side: Answers, metrics: Mapping[str, Metric]) -> list[float]:
    """Each metric on the actual rows, averaged over seeds."""
    return [sum(float(metric.function(outcome)) for outcome in side) / len(side) for metric in metrics.values()]


def _centres(side: Answers, metrics: Mapping[str, Metric]) -> np.ndarray:
    """Each metric on the mean resample, averaged over seeds."""
    means = [centre(outcome) for outcome in side]
    return np.array(
        [np.mean([evaluate_resamples(metric.function, mean, 1)[0] for mean in means]) for metric in metrics.values()]
    )


def _nan_mean(draws: np.ndarray) -> np.ndarray:
    """Return the mean over the resamples in which a metric is finite."""
    finite = np.isfinite(draws)
    count = finite.sum(axis=0)
    return np.where(finite, draws, 0).sum(axis=0) / np.where(count > 0, count, np.nan)


def ends(drawn: np.ndarray, level: float, degrees: float | np.ndarray) -> np.ndarray:
    """[2, k]: the bounds of the percentile intervals of draws [resamples, k], ignoring draws that are not finite.

    With few degrees of freedom [k] the percentiles are moved outwards, like those of Student's t: Hesterberg (2015),
    "What Teachers Should Know about the Bootstrap", section 5.3 ("expanded percentile interval").
    """
    from scipy.stats import norm, t

    tails = norm.cdf(t.ppf((1 - level) / 2, np.maximum(np.broadcast_to(degrees, drawn.shape[1]), 1)))
    columns = [
        np.quantile(column, [tail, 1 - tail], method=QUANTILE) if len(column) else (nan, nan)
        for column, tail in zip(_finite_columns(drawn), tails, strict=True)
    ]
    return np.array(columns, float).reshape(-1, 2).T


def beyond_chance(values: np.ndarray, drawn: np.ndarray, level: float, groups: int) -> np.ndarray:
    """[k] bool: which differences are significantly not 0, corrected for testing all k of them.

    Single-step maxT, Westfall & Young (1993), "Resampling-Based Multiple Testing", chapter 2: a difference counts if
    it is more standard errors from 0 than, in the share `level` of resamples, any of the k draws is from its own mean.
    This stays valid for differences that were selected by their values, such as the best of many.

    Args:
        values: [k] differences.
        drawn: [resamples, k] draws of the differences.
        level: Confidence level for all k together.
        groups: Number of independent groups of rows.
    """
    spread = spreads(drawn)
    middle = np.array([np.mean(column) if len(column) else nan for column in _finite_columns(drawn)])
    with np.errstate(divide="ignore", invalid="ignore"):  # a spread can be 0
        statistics, deviations = np.abs(values) / spread, np.abs(drawn - middle) / spread
    largest = np.nan_to_num(deviations, nan=0.0, posinf=0.0).max(axis=1, initial=0.0)
    return np.nan_to_num(statistics, nan=0.0) > np.quantile(largest, level, method=QUANTILE) * expansion(level, groups)


def spreads(drawn: np.ndarray) -> np.ndarray:
    """[k] standard deviations of the finite values of drawn [resamples, k]; nan if there are none."""
    return np.array([np.std(column) if len(column) else nan for column in _finite_columns(drawn)])


def _finite_columns(drawn: np.ndarray) -> list[np.ndarray]:
    return [column[np.isfinite(column)] for column in drawn.T]
