"""The bootstrap: that it covers the truth as often as it says, is the same twice, and survives small data.

Run: python -m pytest tests/evaluation/test_intervals.py
"""

from math import isnan, nan

import numpy as np
import pytest
from scipy import stats

from pipeline_lib.evaluation.classification import MULTI_LABEL, SINGLE_LABEL
from pipeline_lib.evaluation.intervals import bootstrap
from pipeline_lib.evaluation.outcome import Metric, Outcome
from pipeline_lib.evaluation.regression import REGRESSION

pytestmark = pytest.mark.filterwarnings("error")


def coin(rows: int, truth: float, seed: int) -> Outcome:
    """Two classes; a row is right with probability `truth`."""
    random = np.random.default_rng(seed)
    gold = random.integers(0, 2, rows)
    guess = np.where(random.random(rows) < truth, gold, 1 - gold)
    return Outcome(gold, guess, np.eye(2)[guess])


def test_the_interval_covers_the_truth_as_often_as_it_says():
    accuracy = {"accuracy": SINGLE_LABEL["accuracy"]}
    scores = [bootstrap(coin(200, 0.8, seed), accuracy, resamples=300, seed=seed)["accuracy"] for seed in range(200)]
    covered = np.mean([score.low <= 0.8 <= score.high for score in scores])
    assert 0.90 <= covered <= 0.99


def imbalanced(rows: int, seed: int) -> Outcome:
    """Thirty classes, most of them rare, and a model that is too certain."""
    random, classes = np.random.default_rng(seed), 30
    gold = random.choice(classes, rows, p=(shares := 1 / np.arange(1, classes + 1) ** 1.5) / shares.sum())
    logits = random.normal(size=(rows, classes)) * 1.5
    logits[np.arange(rows), gold] += 2
    chances = np.exp(2 * logits)
    return Outcome(gold, logits.argmax(1), chances / chances.sum(1, keepdims=True))


@pytest.mark.parametrize("rows", [30, 300])
def test_a_score_lies_inside_its_own_interval_where_classes_are_rare(rows):
    for seed in range(5):
        for name, score in bootstrap(imbalanced(rows, seed), SINGLE_LABEL, resamples=100).items():
            low, high = SINGLE_LABEL[name].bounds
            assert low <= score.low <= score.value <= score.high <= high, name


def test_a_macro_average_over_rare_classes_covers_the_truth():
    metric = {name: SINGLE_LABEL[name] for name in ("macro_f1", "macro_precision")}
    truth = {name: each.function(imbalanced(300_000, 1)) for name, each in metric.items()}
    covered = dict.fromkeys(metric, 0)
    for seed in range(100):
        for name, score in bootstrap(imbalanced(3000, seed), metric, resamples=150, seed=seed).items():
            covered[name] += score.low <= truth[name] <= score.high
    assert all(count >= 87 for count in covered.values()), covered


def test_a_resample_averages_over_the_classes_of_the_test_set():
    gold = np.array([0] * 8 + [1, 2])
    outcome = Outcome(gold, np.where(gold == 2, 0, gold), np.eye(3)[gold])
    without_rare = outcome.resample(np.zeros(10, int))
    f1 = SINGLE_LABEL["macro_f1"].function
    assert f1(outcome.take(np.zeros(10, int))) == 1  # of these rows alone
    assert f1(without_rare) == pytest.approx((1 + 1 + 0) / 3)  # 1 and 2 as they are in the test set


def test_agrees_with_scipy():
    random = np.random.default_rng(0)
    errors = random.normal(size=300)
    ours = bootstrap(Outcome(np.zeros(300), errors), {"mae": REGRESSION["mae"]}, resamples=4000)["mae"]
    ends = stats.bootstrap((abs(errors),), np.mean, method="percentile", n_resamples=4000, rng=random)
    assert ours.value == pytest.approx(abs(errors).mean())
    assert ours[1:] == pytest.approx(tuple(ends.confidence_interval), abs=0.01)


def test_a_higher_level_is_wider_and_more_rows_are_narrower():
    def width(rows, level):
        score = bootstrap(coin(rows, 0.7, 0), {"accuracy": SINGLE_LABEL["accuracy"]}, level=level)["accuracy"]
        return score.high - score.low

    assert width(100, 0.5) < width(100, 0.95) < width(100, 0.99)
    assert width(2000, 0.95) < width(100, 0.95) / 3


def test_the_same_seed_gives_the_same_ends():
    once, again, other = (bootstrap(coin(90, 0.7, 0), SINGLE_LABEL, resamples=50, seed=seed) for seed in (1, 1, 2))
    assert once == again and once != other


def test_metrics_share_their_resamples():
    together = bootstrap(coin(90, 0.7, 0), SINGLE_LABEL, resamples=50)
    alone = bootstrap(coin(90, 0.7, 0), {"accuracy": SINGLE_LABEL["accuracy"]}, resamples=50)
    assert together["accuracy"] == together["micro_f1"] == alone["accuracy"]


def test_resamples_without_a_value_are_left_out():
    gold = np.array([0.0, 0.0, 1.0])  # a resample of the first two only has no correlation
    score = bootstrap(Outcome(gold, np.array([0.1, 0.2, 0.9])), {"pearson": REGRESSION["pearson"]})["pearson"]
    assert 0 < score.low <= score.high <= 1
    never = {"never": Metric(lambda outcome: nan, True, "nothing")}
    assert all(isnan(part) for part in bootstrap(Outcome(gold, gold), never, resamples=5)["never"])


@pytest.mark.parametrize(
    ("outcome", "table"),
    [
        (coin(1, 1, 0), SINGLE_LABEL),
        (Outcome(np.ones((1, 2)), np.ones((1, 2)), np.ones((1, 2))), MULTI_LABEL),
        (Outcome(np.array([1.0]), np.array([1.0])), REGRESSION),
        (coin(0, 1, 0), SINGLE_LABEL),
    ],
)
def test_one_row_has_a_value_and_no_interval(outcome, table):
    for score in bootstrap(outcome, table).values():
        assert isnan(score.low) and isnan(score.high)


def test_classes_missing_from_resamples():
    outcome = Outcome(np.arange(40), np.arange(40) % 39, np.eye(40))  # each class once
    scores = bootstrap(outcome, SINGLE_LABEL, resamples=100)
    assert all(score.low <= score.high for score in scores.values())


def test_no_metrics():
    assert bootstrap(coin(5, 1, 0), {}) == {}
