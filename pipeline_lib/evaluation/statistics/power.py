"""What a test set can show: how many independent rows it is worth, and the smallest difference that it detects."""

from math import sqrt
from statistics import NormalDist

import numpy as np

from pipeline_lib.evaluation.predictions import Metric, Predictions, RowCounts
from pipeline_lib.evaluation.statistics.bootstrap import Answers, draw

DIFFER = 0.1
"""The share of rows on which two models that are worth comparing may disagree."""
POWER = 0.8
"""How often a difference of that size is found, as Cohen (1988), "Statistical Power Analysis", section 2.4, asks."""


def effective_rows(outcome: Predictions | RowCounts, metric: Metric, seed: int = 0) -> int | None:
    """How many independent rows would show the metric as exactly, at most as many as there are.

    Rows divided by the design effect: Kish (1965), "Survey Sampling", section 5.4. None for a metric without a spread.
    """
    rows = len(outcome)
    if outcome.groups is None or len(np.unique(outcome.groups)) == rows:
        return rows
    together, apart = (_spread([each], metric, seed) for each in (outcome, outcome.in_groups(np.arange(rows))))
    if not together > 0 or not apart > 0:
        return None
    return min(rows, max(1, round(rows * (apart / together) ** 2)))


def detectable(error: float, level: float = 0.95) -> float:
    """The smallest difference that a comparison at this level finds with a power of .8, by its standard error."""
    return (_z((1 + level) / 2) + _z(POWER)) * error


def detectable_share(rows: int, differ: float = DIFFER, level: float = 0.95) -> float:
    """The same of two shares, such as accuracies, on so many independent rows, before any model is trained.

    Of models that disagree on the share `differ` of the rows: Connor (1987), "Sample Size for Testing Differences in
    Proportions for the Paired-Sample Design". A difference is never larger than the disagreement.
    """
    return min(differ, detectable(sqrt(differ / rows), level))


def detects(rows: int, groups: int) -> str:
    """What a test set can show, as a sentence."""
    if not rows:
        return "There are no test rows"
    finest, coarsest = detectable_share(rows), detectable_share(groups)
    size = f"{finest:.3f}"
    there = f"{rows:,} test rows"
    if groups < rows:
        there += f" in {groups:,} groups"
        size += f" (if rows of a group were independent) to {coarsest:.3f} (if they were alike)"
    return (
        f"{there} detect a difference of {size} in a share such as accuracy, four times in five (power {POWER:g}), "
        f"between models that disagree on {DIFFER:.0%} of the rows"
    )


def _z(share: float) -> float:
    return NormalDist().inv_cdf(share)


def _spread(side: Answers, metric: Metric, seed: int) -> float:
    drawn = draw([side], {"": metric}, seed).draws[:, 0, 0]
    known = drawn[np.isfinite(drawn)]
    return float(np.std(known)) if len(known) else float("nan")
