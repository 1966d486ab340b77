"""Metrics of regression; nan where they are undefined, such as for one row or constant values."""

from math import inf, nan
from typing import Any

import numpy as np

from pipeline_lib.evaluation.predictions import Metric
from pipeline_lib.evaluation.totals import Totals, ratio


def rmse(totals: Totals) -> Any:
    """Root of the mean squared error, in the unit of the data."""
    return np.sqrt(totals.mean("squared_error"))


def mae(totals: Totals) -> Any:
    """Mean absolute error, in the unit of the data."""
    return totals.mean("absolute_error")


def pearson(totals: Totals) -> Any:
    """Pearson's r, from -1 to 1; nan if gold or guess is constant."""
    return _correlation(totals.total("moments"), totals.total("rows"))


def spearman(totals: Totals) -> Any:
    """Spearman's rho, from -1 to 1: Pearson's r of the ranks, with mean ranks for ties; nan if one is constant."""
    return _correlation(totals.total("rank_moments"), totals.total("rows"))


def r2(totals: Totals) -> Any:
    """Coefficient of determination, 1 - sum (gold - guess)^2 / sum (gold - mean)^2; nan for constant gold."""
    gold, _, gold_squared, *_ = np.moveaxis(totals.total("moments"), -1, 0)
    spread = gold_squared - ratio(gold * gold, totals.total("rows"), nan)
    return 1 - ratio(totals.total("squared_error"), spread, nan)


def _correlation(moments: np.ndarray, rows: np.ndarray) -> Any:
    """Pearson's r from the sums [..., 5] of x, y, x^2, y^2 and xy."""
    x, y, xx, yy, xy = np.moveaxis(moments, -1, 0)
    spread_x, spread_y = xx - ratio(x * x, rows, nan), yy - ratio(y * y, rows, nan)
    root = np.sqrt(np.maximum(spread_x, 0)) * np.sqrt(np.maximum(spread_y, 0))
    return np.clip(ratio(xy - ratio(x * y, rows, nan), root, nan), -1, 1)[()]


REGRESSION: dict[str, Metric] = {
    "rmse": Metric(rmse, False, "root mean squared error, in the data's unit", bounds=(0, inf)),
    "mae": Metric(mae, False, "mean absolute error, in the data's unit", bounds=(0, inf)),
    "pearson": Metric(
        pearson, True, "linear correlation of predicted and gold numbers: 1 = perfect, 0 = none", bounds=(-1, 1)
    ),
    "spearman": Metric(
        spearman, True, "rank correlation of predicted and gold numbers: 1 = same order, 0 = none", bounds=(-1, 1)
    ),
    "r2": Metric(r2, True, "share of the variance that is explained: 0 = no better than the mean", bounds=(-inf, 1)),
}
