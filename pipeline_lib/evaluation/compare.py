"""How far two models differ on the same rows, and whether that is more than chance."""

from collections.abc import Mapping, Sequence
from math import nan
from typing import NamedTuple

import numpy as np

from pipeline_lib.evaluation.outcome import Metric, Outcome, Sums

RESAMPLES = 1000
"""So many that the Holm-corrected p of two dozen metrics can still fall below 0.05: none is smaller than 2 / 1001."""

Answers = Sequence[Outcome | Sums]
"""What one recipe's models answered to the same n rows: one model, or one for each training seed."""


class Difference(NamedTuple):
    """A metric of A and of B, B - A with the ends of its interval, in the metric's unit, and a two-sided p value."""

    a: float
    b: float
    value: float
    low: float
    high: float
    p: float


def compare(
    a: Answers,
    b: Answers,
    metrics: Mapping[str, Metric],
    level: float = 0.95,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Difference]:
    """Paired bootstrap: both sides answer the same resampled rows, so that hard rows are hard for both.

    Efron & Tibshirani (1993), "An Introduction to the Bootstrap", sections 8.3 and 13.3; Koehn (2004), "Statistical
    Significance Tests for Machine Translation Evaluation", section 4. Of several seeds a side's metric is their mean,
    and seeds are resampled along with rows: Sellam et al. (2022), "The MultiBERTs", section 3 (Multi-Bootstrap,
    unpaired seeds). With two or three seeds that tells too little rather than too much of how seeds vary.
    Draws where a metric is nan are left out; raises ValueError where the numbers of rows differ.
    """
    if len(lengths := {len(each) for each in (*a, *b)}) > 1:
        raise ValueError(f"the outcomes differ in their number of rows: {sorted(lengths)}")
    (rows,), random = lengths, np.random.default_rng(seed)
    drawn = {name: np.empty(resamples) for name in metrics}
    for index in range(resamples):
        picked = random.integers(0, rows, size=rows)
        one, other = (_luck(random, [each.take(picked) for each in side]) for side in (a, b))
        for name, metric in metrics.items():
            drawn[name][index] = _mean(metric, other) - _mean(metric, one)
    values = {name: (_mean(metric, a), _mean(metric, b)) for name, metric in metrics.items()}
    return {
        name: Difference(one, other, other - one, *_ends(drawn[name], level, rows))
        for name, (one, other) in values.items()
    }


def beyond_chance(p: Mapping[str, float], level: float = 0.95) -> set[str]:
    """The names whose p value stands after correction for their number, so that all hold together at this level.

    Holm (1979), "A Simple Sequentially Rejective Multiple Test Procedure", section 3. A nan is within chance.
    """
    found: set[str] = set()
    tested = {name: value for name, value in p.items() if value == value}
    for left, name in zip(range(len(tested), 0, -1), sorted(tested, key=tested.__getitem__), strict=True):
        if tested[name] * left > 1 - level:
            break
        found.add(name)
    return found


def _luck(random: np.random.Generator, side: Answers) -> Answers:
    return [side[index] for index in random.integers(0, len(side), size=len(side))] if len(side) > 1 else side


def _mean(metric: Metric, side: Answers) -> float:
    return sum(metric.function(each) for each in side) / len(side)


def _ends(drawn: np.ndarray, level: float, rows: int) -> tuple[float, float, float]:
    """The percentile interval, and the achieved significance level of no difference; one row tells of no other."""
    drawn = drawn[~np.isnan(drawn)]
    if rows < 2 or not len(drawn):
        return nan, nan, nan
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    rarer = min(np.count_nonzero(drawn <= 0), np.count_nonzero(drawn >= 0))
    return float(low), float(high), min(1.0, 2 * (rarer + 1) / (len(drawn) + 1))
