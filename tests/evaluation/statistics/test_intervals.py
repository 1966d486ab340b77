"""The bootstrap: that it covers the truth as often as it says, is the same twice, and survives small data.

Run: python -m pytest tests/evaluation/statistics/test_intervals.py
"""

from math import isnan, nan

import numpy as np
import pytest
from scipy import stats

from pipeline_lib.evaluation.metrics.classification import MULTI_LABEL, SINGLE_LABEL
from pipeline_lib.evaluation.metrics.regression import REGRESSION
from pipeline_lib.evaluation.predictions import Metric, Predictions
from pipeline_lib.evaluation.statistics.bootstrap import bootstrap

pytestmark = pytest.mark.filterwarnings("error")


def coin(rows: int, truth: float, seed: int) -> Predictions:
    """Two classes; a row is right with probability `truth`."""
    random = np.random.default_rng(seed)
    gold = random.integers(0, 2, rows)
    guess = np.where(random.random(rows) < truth, gold, 1 - gold)
    return Predictions(gold, guess, np.eye(2)[guess])


def test_the_interval_covers_the_truth_as_often_as_it_says():
    accuracy = {"accuracy": SINGLE_LABEL["accuracy"]}
    scores = [bootstrap(coin(200, 0.8, seed), accuracy, resamples=300, seed=seed)["accuracy"] for seed in range(200)]
    covered = np.mean([score.low <= 0.8 <= score.high for score in scores])
    assert 0.90 <= covered <= 0.99


def imbalanced(rows: int, seed: int) -> Predictions:
    """Thirty classes, most of them rare, and a model that is too certain."""
    random, classes = np.random.default_rng(seed), 30
    gold = random.choice(classes, rows, p=(shares := 1 / np.arange(1, classes + 1) ** 1.5) / shares.sum())
    logits = random.normal(size=(rows, classes)) * 1.5
    logits[np.arange(rows), gold] += 2
    chances = np.exp(2 * logits)
    return Predictions(gold, logits.argmax(1), chances / chances.sum(1, keepdims=True))


@pytest.mark.parametrize("rows", [30, 300])
def test_a_score_lies_inside_its_own_interval_where_classes_are_rare(rows):
    for seed in range(5):
        for name, score in bootstrap(imbalanced(rows, seed), SINGLE_LABEL, resamples=100).items():
            low, high = SINGLE_LABEL[name].bounds
            assert isnan(score.low) or low <= score.low <= score.value <= score.high <= high, name


def test_an_average_over_classes_of_which_one_has_a_row_or_two_gets_no_interval():
    gold = np.array([0] * 20 + [1] * 20 + [2] * 2)
    scores = bootstrap(Predictions(gold, gold, np.eye(3)[gold]), SINGLE_LABEL, resamples=100)
    assert isnan(scores["macro_f1"].low) and isnan(scores["macro_recall"].high)
    assert scores["macro_f1"].value == 1
    assert scores["accuracy"].low < 1
    enough = np.append(gold, 2)
    scores = bootstrap(Predictions(enough, enough, np.eye(3)[enough]), SINGLE_LABEL, resamples=100)
    assert scores["macro_f1"].low < 1


def test_all_right_is_not_certain():
    """The Jeffreys interval of 50 in 50 begins at a percentile of Beta(50.5, 0.5), ours between that and Laplace's."""
    gold = np.arange(50) % 2
    low = bootstrap(Predictions(gold, gold, np.eye(2)[gold]), SINGLE_LABEL, resamples=4000)["accuracy"].low
    assert stats.beta.ppf(0.025, 51, 1) - 0.02 < low < stats.beta.ppf(0.025, 50.5, 0.5)


def test_agrees_with_scipy():
    random = np.random.default_rng(0)
    errors = random.normal(size=300)
    ours = bootstrap(Predictions(np.zeros(300), errors), {"mae": REGRESSION["mae"]}, resamples=4000)["mae"]
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
    assert together["accuracy"] == pytest.approx(alone["accuracy"])
    assert together["accuracy"] == pytest.approx(together["micro_f1"])


def test_a_metric_without_a_value_has_no_interval():
    gold = np.array([0.0, 0.0, 1.0])
    never = {"never": Metric(lambda outcome: nan, True, "nothing", (0, 1))}
    assert all(isnan(part) for part in bootstrap(Predictions(gold, gold), never, resamples=5)["never"])


@pytest.mark.parametrize(
    ("outcome", "table"),
    [
        (coin(1, 1, 0), SINGLE_LABEL),
        (Predictions(np.ones((1, 2)), np.ones((1, 2)), np.ones((1, 2))), MULTI_LABEL),
        (Predictions(np.array([1.0]), np.array([1.0])), REGRESSION),
        (coin(0, 1, 0), SINGLE_LABEL),
    ],
)
def test_one_row_has_a_value_and_no_interval(outcome, table):
    for score in bootstrap(outcome, table).values():
        assert isnan(score.low) and isnan(score.high)


def test_no_metrics():
    assert bootstrap(coin(5, 1, 0), {}) == {}
