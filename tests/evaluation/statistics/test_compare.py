"""Differences between two models: by hand, by planted effects, and how often chance is taken for one.

pytest tests/evaluation/statistics/test_compare.py
"""

import numpy as np
import pytest

from pipeline_lib.evaluation.metrics.classification import SINGLE_LABEL
from pipeline_lib.evaluation.metrics.regression import REGRESSION
from pipeline_lib.evaluation.predictions import Metric, Predictions, RowCounts
from pipeline_lib.evaluation.statistics.bootstrap import beyond_chance, compare_sides, draw, ends

RIGHT = {"right": Metric(lambda sums: sums.mean("right"), True, "share that is right", (0, 1))}


def answers(right):
    return RowCounts({"right": np.asarray(right, float)})


def random_answers(random, rows, share):
    return answers(random.random(rows) < share)


def test_the_difference_is_b_minus_a_and_the_same_answers_differ_by_nothing():
    one, other = answers([1, 1, 0, 0]), answers([1, 1, 1, 0])
    (found,) = compare_sides([one], [other], RIGHT).values()
    assert (found.a, found.b, found.value) == (0.5, 0.75, 0.25)
    (same,) = compare_sides([one], [one], RIGHT).values()
    assert same == (0.5, 0.5, 0, 0, 0, False, 0)
    (equally_good,) = compare_sides([one], [answers([0, 0, 1, 1])], RIGHT).values()
    assert equally_good.low < 0 < equally_good.high  # four rows do not show that two models never differ


def test_the_same_predictions_differ_by_nothing_in_every_metric():
    random = np.random.default_rng(4)
    gold, chances = random.integers(0, 3, 60), random.dirichlet([1, 1, 1], 60)
    one, copy = (Predictions(gold.copy(), chances.argmax(1), chances.copy()) for _ in range(2))
    for difference in compare_sides([one], [copy], SINGLE_LABEL).values():
        assert difference[2:] == (0, 0, 0, False, 0)


def test_rows_are_paired_so_that_a_steady_gain_on_hard_and_easy_rows_is_sure():
    gold = np.random.default_rng(0).normal(0, 100, 50)
    near, far = Predictions(gold, gold + 1.0), Predictions(gold, gold + 2.0)
    found = compare_sides([far], [near], {"mae": REGRESSION["mae"]})["mae"]
    assert found[:5] == pytest.approx((2, 1, -1, -1, -1))  # unpaired, the rows' own spread would hide it
    assert found.sure


def test_the_interval_is_that_of_the_normal_approximation_where_that_holds():
    random = np.random.default_rng(1)
    one, other = random_answers(random, 4000, 0.7), random_answers(random, 4000, 0.75)
    gaps = other.counts["right"] - one.counts["right"]
    (found,) = compare_sides([one], [other], RIGHT).values()
    half = 1.96 * gaps.std() / np.sqrt(len(gaps))
    assert (found.low, found.high) == pytest.approx((gaps.mean() - half, gaps.mean() + half), abs=0.1 * half)


def test_no_more_false_alarms_than_the_level_allows_over_all_pairs_of_equal_models():
    from scipy.stats import binom

    random, runs, alarms = np.random.default_rng(2), 100, 0
    first, second = np.triu_indices(5, 1)
    for seed in range(runs):
        values, draws, rows = draw([[random_answers(random, 200, 0.8)] for _ in range(5)], RIGHT, seed, resamples=200)
        values, draws = values[:, 0], draws[:, :, 0]
        alarms += beyond_chance(values[first] - values[second], draws[:, first] - draws[:, second], 0.95, rows).any()
    assert alarms <= binom.ppf(0.999, runs, 0.05)


def test_a_real_difference_among_many_is_found():
    random = np.random.default_rng(3)
    _, draws, _ = draw([[random_answers(random, 400, 0.6)], [random_answers(random, 400, 0.8)]], RIGHT)
    gaps = np.append(draws[:, 1] - draws[:, 0], random.normal(0, 0.03, (len(draws), 9)), axis=1)
    assert beyond_chance(np.array([gaps[:, 0].mean(), *[0.0] * 9]), gaps, 0.95, 400).tolist() == [True] + [False] * 9


def test_every_metric_of_an_objective_can_be_compared():
    random = np.random.default_rng(3)
    gold, chances = random.integers(0, 3, 60), random.dirichlet([1, 1, 1], 60)
    good = np.eye(3)[gold] * 0.8 + chances * 0.2
    one, other = (Predictions(gold, probabilities.argmax(1), probabilities) for probabilities in (chances, good))
    found = compare_sides([one], [other], SINGLE_LABEL)
    assert found.keys() == SINGLE_LABEL.keys()
    for name in ("accuracy", "macro_f1", "log_loss"):
        assert (found[name].value > 0) == SINGLE_LABEL[name].higher_is_better
        assert found[name].sure


def test_several_seeds_count_by_their_mean_and_their_spread_widens_the_interval():
    even = [answers(np.arange(200) % 10 < level) for level in (7, 7, 7)]
    uneven = [answers(np.arange(200) % 10 < level) for level in (5, 7, 9)]
    one = [answers(np.arange(200) % 10 < 6)]
    narrow, wide = (compare_sides(one, side, RIGHT)["right"] for side in (even, uneven))
    assert narrow.value == pytest.approx(wide.value) == pytest.approx(0.1)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    assert (narrow.sure, wide.sure) == (True, False)


def test_outcomes_of_other_rows_are_refused_and_one_row_tells_nothing():
    with pytest.raises(ValueError, match=r"number of rows: \[2, 3\]"):
        compare_sides([answers([1, 0])], [answers([1, 0, 1])], RIGHT)
    single = compare_sides([answers([1])], [answers([0])], RIGHT)["right"]
    assert np.isnan([single.low, single.high]).all()
    assert not single.sure


def test_draws_that_a_metric_does_not_know_are_left_out():
    drawn = np.array([[1.0, np.nan], [2.0, np.nan], [np.nan, np.nan], [3.0, np.nan]])
    np.testing.assert_allclose(ends(drawn, 0.5, 10**6)[:, 0], [1, 3], rtol=1e-5)  # order statistics 1/4 and 3/4
    assert np.isnan(ends(drawn, 0.95, 10**6)[:, 1]).all()
    assert beyond_chance(np.array([2.0, np.nan]), drawn, 0.95, 10**6).tolist() == [True, False]
