"""Degrees of freedom of intervals. `pytest tests/evaluation/statistics/test_degrees.py`."""

import numpy as np
import pytest
from scipy import stats

from pipeline_lib.evaluation.metrics.classification import SINGLE_LABEL
from pipeline_lib.evaluation.metrics.regression import REGRESSION
from pipeline_lib.evaluation.predictions import Predictions
from pipeline_lib.evaluation.statistics.bootstrap import bootstrap
from pipeline_lib.evaluation.statistics.degrees import degrees_of_freedom

MAE = {"mae": REGRESSION["mae"]}


def with_errors(errors, groups=None):
    """Predictions that are off by these errors."""
    gold = np.linspace(0, 10, len(errors))
    return Predictions(gold, gold + errors, groups=groups)


def expected(values):
    """O'Neill's formula for a mean of values, with scipy's kurtosis."""
    n = len(values)
    return min(2 * n / (stats.kurtosis(values, fisher=False) - (n - 3) / (n - 1)), n - 1)


@pytest.mark.parametrize("degrees", [3, 8, 100])
def test_values_of_large_kurtosis_have_few(degrees):
    errors = np.random.default_rng(degrees).standard_t(degrees, 80)
    found = degrees_of_freedom(with_errors(errors), MAE)
    np.testing.assert_allclose(found, [expected(np.abs(errors))], rtol=1e-6)


def test_one_row_that_decides_the_metric_widens_its_interval():
    usual = np.random.default_rng(0).normal(size=60)
    outlier = np.append(usual[:-1], 40)
    (many,), (few,) = (degrees_of_freedom(with_errors(errors), MAE) for errors in (usual, outlier))
    assert few < 4 < 40 < many <= 59
    score = bootstrap(with_errors(outlier), MAE)["mae"]
    assert score.low < 0.8 < score.value < 1.5 < 4 < score.high  # the mean of the other rows is 0.8


def test_the_values_are_those_of_groups():
    groups = np.repeat(np.arange(30), 4)
    errors = np.random.default_rng(1).standard_t(4, 120)
    totals = np.abs(errors).reshape(30, 4).sum(axis=1)
    found = degrees_of_freedom(with_errors(errors, groups), MAE)
    np.testing.assert_allclose(found, [expected(totals)], rtol=1e-6)


def test_shares_keep_theirs_because_added_answers_widen_their_intervals():
    gold = np.arange(50) % 2
    guess = np.where(np.arange(50) < 48, gold, 1 - gold)
    outcome = Predictions(gold, guess, np.eye(2)[guess])
    assert (degrees_of_freedom(outcome, {"accuracy": SINGLE_LABEL["accuracy"]}) == 49).all()


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_few_or_equal_rows(rows):
    assert degrees_of_freedom(with_errors(np.ones(rows)), MAE) == max(rows - 1, 1)


def test_no_metrics():
    assert degrees_of_freedom(with_errors(np.ones(5)), {}).shape == (0,)
