"""The bootstrap: an interval around each metric, and how far models differ on the same rows beyond chance.

It covers other rows from the same source. It does not cover other seeds of a training, unless several are compared.
"""

from collections.abc import Mapping, Sequence
from math import isfinite, nan
from typing import NamedTuple

import numpy as np

from pipeline_lib.evaluation.predictions import Metric, Predictions, RowCounts, RowValues
from pipeline_lib.evaluation.statistics.folded import folded_ends
from pipeline_lib.evaluation.statistics.resampling import Resampler, centre, evaluate, expansion, resample
from pipeline_lib.evaluation.statistics.smoothing import class_counts

RESAMPLES = 1000
FEWEST = 3
"""Groups that each class must be in, so that an average over classes gets an interval."""

Answers = Sequence[Predictions | RowCounts]
"""What one recipe's models answered to the same n rows: one model, or one for each training seed."""


class Score(NamedTuple):
    """A metric on the rows as they are, and the ends of its interval; in the metric's unit."""

    value: float
    low: float
    high: float


class Difference(NamedTuple):
    """A metric of A and of B, B - A with the ends of its interval, in the metric's unit."""

    a: float
    b: float
    value: float
    low: float
    high: float
    sure: bool
    """Whether it is beyond chance, together with the other metrics that were compared."""
    error: float
    """Its standard error, which is larger where there are few groups."""


class Drawn(NamedTuple):
    """Metrics of several sides on the same rows."""

    values: np.ndarray
    """[sides, metrics] on the rows as they are."""
    draws: np.ndarray
    """[resamples, sides, metrics], less the bias of resampling, twice: the values have it, too."""
    groups: int
    """Independent groups of rows, or rows where there are none."""


def bootstrap(
    outcome: Predictions | RowCounts,
    metrics: Mapping[str, Metric],
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Score]:
    """Every metric with the ends of its percentile interval, which holds the metric's value and keeps its bounds.

    Efron & Tibshirani (1993), "An Introduction to the Bootstrap", section 13.3, with the bias of resampling taken off
    (chapter 10). The ends are nan for a single group, which says nothing of how rows vary, and for averages over
    classes of which one is in fewer than `FEWEST` groups: see `rare_classes`.
    """
    drawn = draw([[outcome]], metrics, seed, resamples)
    low, high = ends(drawn.draws[:, 0], level, drawn.groups)
    unknown = rare_classes(outcome) > 0
    scores = {}
    for index, (name, metric) in enumerate(metrics.items()):
        value, limits = float(drawn.values[0, index]), (float(low[index]), float(high[index]))
        if metric.folded and drawn.groups > 1:
            limits = folded_ends(outcome, metric.folded, level, resamples, seed)
        if metric.by_class and unknown:
            limits = (nan, nan)
        scores[name] = _score(value, limits, metric.bounds)
    return scores


def rare_classes(outcome: RowValues) -> int:
    """How many of the classes in the gold labels are in fewer than `FEWEST` groups.

    How such a class varies cannot be seen: of one row it is always answered as it is.
    """
    counts = class_counts(outcome)
    if counts is None or not len(outcome):
        return 0
    row, label = counts.nonzero()
    pairs = np.unique(np.stack([outcome.group_of_row[row], label]), axis=1)
    having = np.bincount(pairs[1]) if pairs.size else np.zeros(0)
    return int(np.count_nonzero((having > 0) & (having < FEWEST)))


def _score(value: float, limits: tuple[float, float], bounds: tuple[float, float]) -> Score:
    if not isfinite(value) or not all(map(isfinite, limits)):
        return Score(value, nan, nan)
    low, high = np.clip(limits, *bounds)
    return Score(value, min(float(low), value), max(float(high), value))


def compare(
    a: Answers, b: Answers, metrics: Mapping[str, Metric], level: float = 0.95, seed: int = 0
) -> dict[str, Difference]:
    """Both sides' metrics with their differences, by `draw`; raises ValueError where the numbers of rows differ."""
    values, draws, groups = draw([a, b], metrics, seed)
    gaps, drawn = values[1] - values[0], draws[:, 1] - draws[:, 0]
    low, high = ends(drawn, level, groups)
    known = _known(drawn)
    errors = np.array([np.std(column) if len(column) else nan for column in known]) * expansion(level, groups)
    facts = (*values, gaps, low, high, beyond_chance(gaps, drawn, level, groups), errors)
    columns = (each.tolist() for each in facts)
    return {name: Difference(*facts) for name, facts in zip(metrics, zip(*columns, strict=True), strict=True)}


def draw(sides: Sequence[Answers], metrics: Mapping[str, Metric], seed: int = 0, resamples: int = RESAMPLES) -> Drawn:
    """Paired bootstrap: all sides answer the same resampled rows, so that hard rows are hard for all of them.

    Koehn (2004), "Statistical Significance Tests for Machine Translation Evaluation". Of several seeds a side's metric
    is their mean, and seeds are resampled along with rows: Sellam et al. (2022), "The MultiBERTs", section 3
    (Multi-Bootstrap, unpaired seeds); two or three of them show too little of how seeds vary. The answers that are
    added for each side (`smoothing`) are drawn apart, as Agresti & Min (2005), "Simple Improved Confidence Intervals
    for Comparing Matched Proportions", add pairs that differ. Draws are nan for a single group. Raises ValueError where
    the numbers of rows differ.
    """
    outcomes = [each for side in sides for each in side]
    if len(lengths := {len(each) for each in outcomes}) != 1:
        raise ValueError(f"the outcomes differ in their number of rows: {sorted(lengths)}")
    values = np.array([_means(side, metrics) for side in sides])
    resampler, random = Resampler.of(min(outcomes, key=_count_groups)), np.random.default_rng(seed)
    if resampler.groups < 2:
        return Drawn(values, np.full((resamples, len(sides), len(metrics)), np.nan), resampler.groups)
    parts = [_drawn(sides, metrics, weights, random) for weights in resampler.draw(random, resamples)]
    draws = np.concatenate(parts) if parts else np.empty((0, len(sides), len(metrics)))
    expected = np.array([_centres(side, metrics) for side in sides])
    with np.errstate(invalid="ignore"):
        bias = _nan_mean(draws) - expected
    return Drawn(values, draws - 2 * np.nan_to_num(bias), resampler.groups)


def _count_groups(outcome: RowValues) -> int:
    return int(outcome.group_of_row.max(initial=-1)) + 1


def _drawn(
    sides: Sequence[Answers], metrics: Mapping[str, Metric], weights: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """[some, sides, metrics] of resamples with these weights."""
    draws = np.empty((len(weights), len(sides), len(metrics)))
    for place, side in enumerate(sides):
        each = np.stack([_of_resamples(outcome, metrics, weights, random) for outcome in side])
        if len(side) == 1:
            draws[:, place] = each[0]
            continue
        lucky = random.integers(0, len(side), (len(weights), len(side)))
        draws[:, place] = each[lucky, np.arange(len(weights))[:, None]].mean(axis=1)
    return draws


def _of_resamples(
    outcome: Predictions | RowCounts, metrics: Mapping[str, Metric], weights: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    resamples = resample(outcome, weights, random)
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = [evaluate(metric.function, resamples, len(weights)) for metric in metrics.values()]
    return np.stack(columns, axis=1) if columns else np.empty((len(weights), 0))


def _means(side: Answers, metrics: Mapping[str, Metric]) -> list[float]:
    return [sum(float(metric.function(each)) for each in side) / len(side) for metric in metrics.values()]


def _centres(side: Answers, metrics: Mapping[str, Metric]) -> np.ndarray:
    totals = [centre(each) for each in side]
    return np.array(
        [np.mean([evaluate(metric.function, each, 1)[0] for each in totals]) for metric in metrics.values()]
    )


def _nan_mean(draws: np.ndarray) -> np.ndarray:
    known = np.isfinite(draws)
    count = known.sum(axis=0)
    return np.where(known, draws, 0).sum(axis=0) / np.where(count > 0, count, np.nan)


def ends(drawn: np.ndarray, level: float, groups: int) -> np.ndarray:
    """[2, k]: the ends of the percentile intervals of draws [resamples, k], those that are nan left out.

    Of few groups the percentiles lie further out, as Student's t does: Hesterberg (2015), "What Teachers Should Know
    about the Bootstrap", section 5.3 ("expanded percentile interval").
    """
    from scipy.stats import norm, t

    tail = norm.cdf(t.ppf((1 - level) / 2, max(groups - 1, 1)))
    columns = [np.quantile(known, [tail, 1 - tail]) if len(known) else (nan, nan) for known in _known(drawn)]
    return np.array(columns, float).reshape(-1, 2).T


def beyond_chance(values: np.ndarray, drawn: np.ndarray, level: float, groups: int) -> np.ndarray:
    """[k] bool: which differences `values` [k] with their `drawn` [resamples, k] are not 0, all together at this level.

    A difference counts where it is more standard errors from 0 than the farthest of all k strays from its own mean in
    the given share of resamples: Westfall & Young (1993), "Resampling-Based Multiple Testing", chapter 2 (single-step
    maxT). So it holds too for what was picked by looking at the values, such as the best of many.
    """
    known = _known(drawn)
    spread = np.array([np.std(column) if len(column) else nan for column in known])
    middle = np.array([np.mean(column) if len(column) else nan for column in known])
    with np.errstate(divide="ignore", invalid="ignore"):
        far, strays = np.abs(values) / spread, np.abs(drawn - middle) / spread
    farthest = np.nan_to_num(strays, nan=0.0, posinf=0.0).max(axis=1, initial=0.0)
    return np.nan_to_num(far, nan=0.0) > np.quantile(farthest, level) * expansion(level, groups)


def _known(drawn: np.ndarray) -> list[np.ndarray]:
    return [column[np.isfinite(column)] for column in drawn.T]
