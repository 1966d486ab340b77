"""Metrics of regression against scikit-learn and scipy, by hand, and where they are not defined.

Run: python -m pytest tests/evaluation/metrics/test_regression.py
"""

from math import isnan, sqrt

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from pipeline_lib.evaluation.metrics.regression import REGRESSION
from pipeline_lib.evaluation.predictions import Predictions

pytestmark = pytest.mark.filterwarnings("error")

REFERENCE = {
    "rmse": reference.root_mean_squared_error,
    "mae": reference.mean_absolute_error,
    "pearson": lambda gold, guess: stats.pearsonr(gold, guess).statistic,
    "spearman": lambda gold, guess: stats.spearmanr(gold, guess).statistic,
    "r2": reference.r2_score,
}


@pytest.mark.parametrize("name", REGRESSION)
@pytest.mark.parametrize("rounded", [None, 0])
def test_as_in_scikit_learn_and_scipy(name, rounded):
    random = np.random.default_rng(0)
    for rows in (2, 10, 500):
        gold = 3 + 2 * random.normal(size=rows)
        guess = gold + random.normal(size=rows)
        if rounded is not None and rows > 2:  # many ties
            gold, guess = gold.round(rounded), guess.round(rounded)
        assert REGRESSION[name].function(Predictions(gold, guess)) == pytest.approx(
            REFERENCE[name](gold, guess), abs=1e-12
        )


def test_by_hand():
    outcome = Predictions(np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 2.0, 3.0, 7.0], dtype=np.float32))
    value = {name: metric.function(outcome) for name, metric in REGRESSION.items()}
    assert value["rmse"] == pytest.approx(sqrt((1 + 0 + 0 + 9) / 4)) and value["mae"] == 1
    assert value["r2"] == pytest.approx(1 - 10 / 5)
    assert value["pearson"] == pytest.approx(8 / sqrt(5 * 17))  # deviations -1.5 -.5 .5 1.5 and -1.5 -1.5 -.5 3.5
    assert value["spearman"] == pytest.approx(4.5 / sqrt(5 * 4.5))  # ranks 1 2 3 4 and 1.5 1.5 3 4


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e9 + 0.1])
def test_a_constant_gives_nan(constant):
    same, other = np.full(7, constant), np.arange(7.0)
    for name in ("pearson", "spearman"):
        assert isnan(REGRESSION[name].function(Predictions(same, other)))
        assert isnan(REGRESSION[name].function(Predictions(other, same)))
    assert isnan(REGRESSION["r2"].function(Predictions(same, other)))
    assert REGRESSION["r2"].function(Predictions(other, same)) <= 0


def test_one_row_and_none():
    one = {name: metric.function(Predictions(np.array([1.0]), np.array([3.0]))) for name, metric in REGRESSION.items()}
    assert one["rmse"] == one["mae"] == 2 and all(isnan(one[name]) for name in ("pearson", "spearman", "r2"))
    assert all(isnan(metric.function(Predictions(np.array([]), np.array([])))) for metric in REGRESSION.values())


def test_which_way_is_better():
    assert [name for name, metric in REGRESSION.items() if not metric.higher_is_better] == ["rmse", "mae"]
