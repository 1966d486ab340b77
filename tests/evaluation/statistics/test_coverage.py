"""Intervals hold the truth as often as they say, and equal models differ as seldom: a short form of the simulations.

The full table: python tests/benchmarks/coverage.py. Here the bounds are those of chance in as few repeats.
"""

import numpy as np
import pytest
from scipy.stats import binom
from simulated_sets import classified, coverage, in_groups, measured, questioned, scored, tagged

from pipeline_lib.evaluation.metrics.classification import SINGLE_LABEL
from pipeline_lib.evaluation.metrics.question_answering import READING
from pipeline_lib.evaluation.metrics.regression import REGRESSION
from pipeline_lib.evaluation.metrics.spans import SPANS
from pipeline_lib.evaluation.predictions import Metric, Predictions
from pipeline_lib.evaluation.statistics.bootstrap import bootstrap, compare_sides
from pipeline_lib.evaluation.statistics.power import detectable, detectable_share, effective_rows

RIGHT = {"right": Metric(lambda totals: totals.mean("right"), True, "share that is right", bounds=(0, 1))}
REPEATS = 60


def least(share: float = 0.94, repeats: int = REPEATS) -> float:
    """What an interval of that coverage falls below in one of a thousand runs of this test."""
    return float(binom.ppf(0.001, repeats, share)) / repeats


@pytest.mark.parametrize(
    ("population", "metrics", "rows"),
    [
        (classified([0.95, 0.05], [0.97, 0.7], 1.2), SINGLE_LABEL, 200),
        (scored(1.5, 0.05), {"expected_calibration_error": SINGLE_LABEL["expected_calibration_error"]}, 300),
        (measured(8), REGRESSION, 100),
        (tagged([0.8, 0.3, 0.05], 0.8), SPANS, 150),
        (questioned(0.1, 0.7), READING, 150),
    ],
    ids=["95/5", "calibration 95/5", "numbers", "spans", "questions"],
)
def test_intervals_hold_the_truth(population, metrics, rows):
    for name, facts in coverage(population, metrics, rows, REPEATS, resamples=200).items():
        assert facts["coverage"] >= least(), (name, facts)


@pytest.mark.parametrize("size", [1, 5, 10])
def test_intervals_of_grouped_rows_hold_the_truth(size):
    (facts,) = coverage(in_groups(size), RIGHT, 400, 200, resamples=200).values()
    assert facts["coverage"] >= least(0.95, 200)


@pytest.mark.parametrize("size", [1, 5, 10])
def test_equal_models_on_grouped_rows_differ_no_more_often_than_the_level_allows(size):
    draw, different = in_groups(size), 0
    for repeat in range(100):
        random = np.random.default_rng([2, repeat])
        one, other = draw(random, 400), draw(random, 400)
        different += compare_sides([one], [other], RIGHT, seed=repeat)["right"].sure
    assert different <= binom.ppf(0.999, 100, 0.05)


def test_rows_drawn_twice_in_a_group_are_worth_one():
    outcome = in_groups(1)(np.random.default_rng(0), 300)
    twice = outcome.take(np.repeat(np.arange(300), 2))
    assert effective_rows(outcome, RIGHT["right"]) == 300
    assert effective_rows(twice, RIGHT["right"]) == pytest.approx(300, rel=0.1)
    once, doubled = (bootstrap(predictions, RIGHT)["right"] for predictions in (outcome, twice))
    assert doubled.high - doubled.low == pytest.approx(once.high - once.low, rel=0.1)


def test_groups_of_ten_are_worth_what_kish_says():
    """The design effect is 1 + (10 - 1) * .4 = 4.6: 5,000 rows are worth 1,087."""
    outcome = in_groups(10)(np.random.default_rng(1), 5000)
    assert effective_rows(outcome, RIGHT["right"]) == pytest.approx(5000 / 4.6, rel=0.2)


def test_the_detectable_difference_is_found_four_times_in_five():
    random, found, size = np.random.default_rng(3), 0, detectable_share(1000, differ=0.2)
    assert size == pytest.approx(2.802 * np.sqrt(0.2 / 1000), rel=1e-3)
    for repeat in range(100):
        kind = random.choice(3, 1000, p=[0.1 - size / 2, 0.1 + size / 2, 0.8])  # A alone right, B alone, both
        gold, right_a, right_b = np.zeros(1000, int), kind != 1, kind != 0
        one, other = (Predictions(gold, 1 - right.astype(int), np.eye(2)[1 - right]) for right in (right_a, right_b))
        metric = {"accuracy": SINGLE_LABEL["accuracy"]}
        found += compare_sides([one], [other], metric, seed=repeat)["accuracy"].sure
    assert binom.ppf(0.001, 100, 0.8) <= found <= binom.ppf(0.999, 100, 0.8)
    error = compare_sides([one], [other], metric)["accuracy"].error
    assert detectable(error) == pytest.approx(size, rel=0.15)
