"""Metrics of regression; nan where the rows do not define them, for one row or a constant."""

from math import inf, nan

import numpy as np

from pipeline_lib.evaluation.outcome import Metric, Outcome


def _numbers(outcome: Outcome) -> tuple[np.ndarray, np.ndarray]:
    return outcome.gold.astype(np.float64), outcome.guess.astype(np.float64)


def _varies(values: np.ndarray) -> bool:
    """By the values themselves: the deviations of a constant from its own rounded mean are not always 0."""
    return len(values) > 0 and bool(np.any(values != values[0]))


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    if not (_varies(one) and _varies(other)):
        return nan
    one, other = one - one.mean(), other - other.mean()
    cosine = (one / np.linalg.norm(one)) @ (other / np.linalg.norm(other))
    return float(np.clip(cosine, -1, 1))


def rmse(outcome: Outcome) -> float:
    """Root of the mean squared error, in the unit of the data."""
    gold, guess = _numbers(outcome)
    return float(np.sqrt(np.mean((guess - gold) ** 2))) if len(gold) else nan


def mae(outcome: Outcome) -> float:
    """Mean absolute error, in the unit of the data."""
    gold, guess = _numbers(outcome)
    return float(np.mean(np.abs(guess - gold))) if len(gold) else nan


def pearson(outcome: Outcome) -> float:
    """Pearson's r, from -1 to 1; nan where gold or guess is constant."""
    return _correlation(*_numbers(outcome))


def spearman(outcome: Outcome) -> float:
    """Spearman's rho, from -1 to 1: Pearson's r of the ranks, ties sharing theirs; nan where one is constant."""
    from scipy.stats import rankdata

    return _correlation(*(rankdata(numbers) for numbers in _numbers(outcome)))


def r2(outcome: Outcome) -> float:
    """Coefficient of determination, 1 - sum (gold - guess)^2 / sum (gold - mean)^2; nan for constant gold."""
    gold, guess = _numbers(outcome)
    return float(1 - np.sum((gold - guess) ** 2) / np.sum((gold - gold.mean()) ** 2)) if _varies(gold) else nan


REGRESSION: dict[str, Metric] = {
    "rmse": Metric(
        rmse, False, "typical size of an error, large ones counting more, in the data's unit", bounds=(0, inf)
    ),
    "mae": Metric(mae, False, "mean size of an error, in the data's unit", bounds=(0, inf)),
    "pearson": Metric(
        pearson, True, "how well a straight line joins guess and truth: 1 perfectly, 0 not at all", bounds=(-1, 1)
    ),
    "spearman": Metric(
        spearman, True, "how well guesses are in the order of the truth: 1 perfectly, 0 not at all", bounds=(-1, 1)
    ),
    "r2": Metric(r2, True, "share of the variation that is explained: 0 is no better than the mean", bounds=(-inf, 1)),
}
