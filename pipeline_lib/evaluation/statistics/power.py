"""The power of a test set: its effective number of rows, and the smallest difference that it detects."""

from math import sqrt
from statistics import NormalDist

import numpy as np

from pipeline_lib.evaluation.predictions import Metric, Predictions, RowCounts
from pipeline_lib.evaluation.statistics.bootstrap import Answers, draw, spreads

DIFFER = 0.1
"""Assumed share of rows on which two models disagree."""
POWER = 0.8
"""Probability of finding such a difference, as recommended by Cohen (1988), "Statistical Power Analysis", 2.4."""


def effective_rows(outcome: Predictions | RowCounts, metric: Metric, seed: int = 0) -> int | None:
    """The number of independent rows that would measure the metric equally well; at most the actual number.

    Rows divided by the design effect: Kish (1965), "Survey Sampling", section 5.4. None if the metric has no spread.
    """
    rows = len(outcome)
    if outcome.groups is None or len(np.unique(outcome.groups)) == rows:
        return rows
    grouped = _spread([outcome], metric, seed)
    independent = _spread([outcome.with_groups(np.arange(rows))], metric, seed)
    if not grouped > 0 or not independent > 0:  # also for nan
        return None
    return min(rows, max(1, round(rows * (independent / grouped) ** 2)))


def detectable(error: float, level: float = 0.95) -> float:
    """The smallest difference that a comparison with this standard error finds with a power of 0.8."""
    return (_z((1 + level) / 2) + _z(POWER)) * error


def detectable_share(rows: int, differ: float = DIFFER, level: float = 0.95) -> float:
    """The smallest detectable difference of two shares, such as accuracies, known before any model is trained.

    Connor (1987), "Sample Size for Testing Differences in Proportions for the Paired-Sample Design". The difference
    is never larger than the disagreement.

    Args:
        rows: Number of independent test rows.
        differ: Share of the rows on which the models disagree.
        level: Confidence level.
    """
    return min(differ, detectable(sqrt(differ / rows), level))


def detects(rows: int, groups: int) -> str:
    """Describe the smallest difference that a test set can detect, as a sentence."""
    if not rows:
        return "There are no test rows"
    finest, coarsest = detectable_share(rows), detectable_share(groups)
    size = f"{finest:.3f}"
    subject = f"{rows:,} test rows"
    if groups < rows:
        subject += f" in {groups:,} groups"
        size += f" (if rows within a group are independent) to {coarsest:.3f} (if they are identical)"
    return (
        f"{subject} detect a difference of {size} in a share such as accuracy, with a power of {POWER:g}, "
        f"between models that disagree on {DIFFER:.0%} of the rows"
    )


def _z(share: float) -> float:
    return NormalDist().inv_cdf(share)


def _spread(side: Answers, metric: Metric, seed: int) -> float:
    """The standard deviation of a metric over resamples."""
    return float(spreads(draw([side], {"": metric}, seed).draws[:, 0])[0])
