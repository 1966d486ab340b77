"""How far models differ on the same rows, and whether that is more than chance."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pipeline_lib.evaluation.outcome import Metric, Outcome, Sums

RESAMPLES = 1000

Answers = Sequence[Outcome | Sums]
"""What one recipe's models answered to the same n rows: one model, or one for each training seed."""


class Difference(NamedTuple):
    """A metric of A and of B, B - A with the ends of its interval, in the metric's unit."""

    a: float
    b: float
    value: float
    low: float
    high: float
    sure: bool
    """Whether it is beyond chance, together with the other metrics that were compared."""


class Drawn(NamedTuple):
    """Metrics of several sides on the same rows: `values` [sides, metrics], and `draws` [resamples, sides, metrics]."""

    values: np.ndarray
    draws: np.ndarray


def compare(
    a: Answers, b: Answers, metrics: Mapping[str, Metric], level: float = 0.95, seed: int = 0
) -> dict[str, Difference]:
    """Both sides' metrics with their differences, by `draw`; raises ValueError where the numbers of rows differ."""
    values, draws = draw([a, b], metrics, seed)
    gaps, drawn = values[1] - values[0], draws[:, 1] - draws[:, 0]
    low, high = ends(drawn, level)
    columns = (each.tolist() for each in (*values, gaps, low, high, beyond_chance(gaps, drawn, level)))
    return {name: Difference(*facts) for name, facts in zip(metrics, zip(*columns, strict=True), strict=True)}


def draw(sides: Sequence[Answers], metrics: Mapping[str, Metric], seed: int = 0, resamples: int = RESAMPLES) -> Drawn:
    """Paired bootstrap: all sides answer the same resampled rows, so that hard rows are hard for all of them.

    Efron & Tibshirani (1993), "An Introduction to the Bootstrap", section 13.3; Koehn (2004), "Statistical
    Significance Tests for Machine Translation Evaluation". Of several seeds a side's metric is their mean,
    and seeds are resampled along with rows: Sellam et al. (2022), "The MultiBERTs", section 3 (Multi-Bootstrap,
    unpaired seeds); two or three of them tell too little of how seeds vary. Draws are nan for a single row, which says
    nothing of how rows vary. Raises ValueError where the numbers of rows differ.
    """
    lengths = {len(each) for side in sides for each in side}
    if len(lengths) != 1:
        raise ValueError(f"the outcomes differ in their number of rows: {sorted(lengths)}")
    (rows,), random = lengths, np.random.default_rng(seed)
    draws = np.full((resamples, len(sides), len(metrics)), np.nan)
    for index in range(resamples if rows > 1 else 0):
        picked = random.integers(0, rows, size=rows)
        for place, side in enumerate(sides):
            lucky = random.integers(0, len(side), size=len(side)) if len(side) > 1 else [0]
            draws[index, place] = _means([side[which].resample(picked) for which in lucky], metrics)
    return Drawn(np.array([_means(side, metrics) for side in sides]), draws)


def ends(drawn: np.ndarray, level: float) -> np.ndarray:
    """[2, k]: the ends of the percentile intervals of draws [resamples, k], those that are nan left out."""
    quantiles = [(1 - level) / 2, (1 + level) / 2]
    columns = [np.quantile(column, quantiles) if len(column) else (np.nan, np.nan) for column in _known(drawn)]
    return np.array(columns).reshape(-1, 2).T


def beyond_chance(values: np.ndarray, drawn: np.ndarray, level: float) -> np.ndarray:
    """[k] bool: which differences `values` [k] with their `drawn` [resamples, k] are not 0, all together at this level.

    A difference counts where it is more standard errors from 0 than the farthest of all k strays from its own value in
    the given share of resamples: Westfall & Young (1993), "Resampling-Based Multiple Testing", chapter 2 (single-step
    maxT). So it holds too for what was picked by looking at the values, such as the best of many.
    """
    spread = np.array([np.std(column) if len(column) else np.nan for column in _known(drawn)])
    with np.errstate(divide="ignore", invalid="ignore"):
        far, strays = np.abs(values) / spread, np.abs(drawn - values) / spread
    farthest = np.nan_to_num(strays, nan=0.0, posinf=0.0).max(axis=1, initial=0.0)
    return np.nan_to_num(far, nan=0.0) > np.quantile(farthest, level)


def _known(drawn: np.ndarray) -> list[np.ndarray]:
    return [column[~np.isnan(column)] for column in drawn.T]


def _means(side: Answers, metrics: Mapping[str, Metric]) -> list[float]:
    return [sum(metric.function(each) for each in side) / len(side) for metric in metrics.values()]
