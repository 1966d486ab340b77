"""Metrics of classification against scikit-learn, against values by hand, and at the edges.

Run: python -m pytest tests/evaluation/metrics/test_classification.py
"""

from math import isnan, log, sqrt

import numpy as np
import pytest
from sklearn import metrics as reference

from pipeline_lib.evaluation.metrics.classification import (
    MULTI_LABEL,
    SINGLE_LABEL,
    calibration,
    confusion_matrix,
    per_class,
)
from pipeline_lib.evaluation.predictions import Predictions

pytestmark = pytest.mark.filterwarnings(  # scikit-learn's are ignored
    "error", "ignore:A single label was found", "ignore:`y1`, `y2` and `labels` have only one label in common"
)


def single(rows: int, classes: int, seed: int, used: int | None = None) -> Predictions:
    """Guesses that are right more often than not; only the first `used` classes are gold."""
    random = np.random.default_rng(seed)
    gold = random.integers(0, used or classes, rows)
    scores = random.normal(size=(rows, classes))
    scores[np.arange(rows), gold] += 1.5
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return Predictions(gold, probabilities.argmax(axis=1), probabilities)


def several(rows: int, classes: int, seed: int) -> Predictions:
    """Several labels a row; the last class is in neither gold nor guess, the one before never guessed."""
    random = np.random.default_rng(seed)
    gold = (random.random((rows, classes)) < 0.3).astype(int)
    probabilities = np.clip(0.5 * gold + 0.7 * random.random((rows, classes)), 0, 1)
    gold[:, -1], probabilities[:, -2:] = 0, 0.1
    return Predictions(gold, (probabilities > 0.5).astype(int), probabilities)


def calibration_error_by_the_book(confidence, right) -> float:
    """Guo et al. (2017), eq. 3, written as it stands there, one bin after the other."""
    error = 0.0
    for m in range(1, 16):
        inside = (confidence > (m - 1) / 15) & (confidence <= m / 15)
        if inside.any():
            error += inside.sum() / len(right) * abs(right[inside].mean() - confidence[inside].mean())
    return error


SKLEARN_SINGLE = {
    "accuracy": lambda o: reference.accuracy_score(o.gold, o.guess),
    "macro_f1": lambda o: reference.f1_score(o.gold, o.guess, average="macro", zero_division=0),
    "micro_f1": lambda o: reference.f1_score(o.gold, o.guess, average="micro", zero_division=0),
    "macro_precision": lambda o: reference.precision_score(o.gold, o.guess, average="macro", zero_division=0),
    "macro_recall": lambda o: reference.recall_score(o.gold, o.guess, average="macro", zero_division=0),
    "weighted_f1": lambda o: reference.f1_score(o.gold, o.guess, average="weighted", zero_division=0),
    "matthews_correlation": lambda o: reference.matthews_corrcoef(o.gold, o.guess),
    "cohen_kappa": lambda o: reference.cohen_kappa_score(o.gold, o.guess),
    "log_loss": lambda o: reference.log_loss(o.gold, o.probabilities, labels=range(o.probabilities.shape[1])),
    "expected_calibration_error": lambda o: calibration_error_by_the_book(
        o.probabilities.max(axis=1), o.gold == o.guess
    ),
}


@pytest.mark.parametrize("name", SINGLE_LABEL)
@pytest.mark.parametrize("shape", [(500, 2, None), (300, 7, 4), (100, 77, 50), (1, 5, None)])
def test_single_label_as_in_scikit_learn(name, shape):
    rows, classes, used = shape
    for seed in range(3):
        outcome = single(rows, classes, seed, used)
        expected = pytest.approx(SKLEARN_SINGLE[name](outcome), abs=1e-12, nan_ok=True)
        assert SINGLE_LABEL[name].function(outcome) == expected


def averaged(score, average):
    """scikit-learn's score over the classes that are in gold or guess: what our macro averages are made of."""
    return lambda o: score(
        o.gold, o.guess, average=average, labels=np.flatnonzero((o.gold | o.guess).any(axis=0)), zero_division=0
    )


SKLEARN_MULTI = {
    "subset_accuracy": lambda o: reference.accuracy_score(o.gold, o.guess),
    "macro_f1": averaged(reference.f1_score, "macro"),
    "micro_f1": averaged(reference.f1_score, "micro"),
    "macro_precision": averaged(reference.precision_score, "macro"),
    "micro_precision": averaged(reference.precision_score, "micro"),
    "macro_recall": averaged(reference.recall_score, "macro"),
    "micro_recall": averaged(reference.recall_score, "micro"),
    "hamming_loss": lambda o: reference.hamming_loss(o.gold, o.guess),
    "expected_calibration_error": lambda o: calibration_error_by_the_book(
        np.where(o.guess, o.probabilities, 1 - o.probabilities).ravel(), (o.gold == o.guess).ravel()
    ),
}


@pytest.mark.parametrize("name", MULTI_LABEL)
@pytest.mark.parametrize("shape", [(400, 6), (50, 30)])
def test_several_labels_as_in_scikit_learn(name, shape):
    for seed in range(3):
        outcome = several(*shape, seed)
        assert MULTI_LABEL[name].function(outcome) == pytest.approx(SKLEARN_MULTI[name](outcome), abs=1e-12)


# Four rows of classes a, b, c and d; c is never guessed, d is nowhere.
BY_HAND = Predictions(
    gold=np.array([0, 0, 1, 2]),
    guess=np.array([0, 1, 1, 1]),
    probabilities=np.array([[0.9, 0.1, 0, 0], [0.4, 0.6, 0, 0], [0.5, 0.5, 0, 0], [0, 0.75, 0.25, 0]]),
)


def test_single_label_by_hand():
    value = {name: metric.function(BY_HAND) for name, metric in SINGLE_LABEL.items()}
    # precision 1, 1/3, 0; recall 1/2, 1, 0; F1 2/3, 1/2, 0; class d left out
    assert value["accuracy"] == value["micro_f1"] == pytest.approx(1 / 2)
    assert value["macro_precision"] == pytest.approx((1 + 1 / 3) / 3)
    assert value["macro_recall"] == pytest.approx((1 / 2 + 1) / 3)
    assert value["macro_f1"] == pytest.approx((2 / 3 + 1 / 2) / 3)
    assert value["weighted_f1"] == pytest.approx((2 * 2 / 3 + 1 / 2) / 4)
    # R_K: 2 right of 4; gold 2 1 1, guess 1 3 0
    assert value["matthews_correlation"] == pytest.approx((2 * 4 - 5) / sqrt((16 - 6) * (16 - 10)))
    # kappa: 2 right of 4, by chance (2 * 1 + 1 * 3) / 4 of 4
    assert value["cohen_kappa"] == pytest.approx((2 / 4 - 5 / 16) / (1 - 5 / 16))
    assert value["log_loss"] == pytest.approx(-(log(0.9) + log(0.4) + log(0.5) + log(0.25)) / 4)
    # four rows in four bins: gaps 0.1, 0.6, 0.5, 0.75
    assert value["expected_calibration_error"] == pytest.approx((0.1 + 0.6 + 0.5 + 0.75) / 4)


def test_several_labels_by_hand():
    outcome = Predictions(
        np.array([[1, 1, 0], [0, 1, 0]]),
        np.array([[1, 0, 0], [0, 1, 0]]),
        np.array([[0.8, 0.3, 0.05], [0.1, 0.7, 0.15]]),
    )
    value = {name: metric.function(outcome) for name, metric in MULTI_LABEL.items()}
    assert value["subset_accuracy"] == 1 / 2
    assert value["hamming_loss"] == pytest.approx(1 / 6)
    assert value["macro_precision"] == value["micro_precision"] == 1  # the third class left out
    assert value["macro_recall"] == pytest.approx(3 / 4) and value["micro_recall"] == pytest.approx(2 / 3)
    assert value["macro_f1"] == pytest.approx((1 + 2 / 3) / 2) and value["micro_f1"] == pytest.approx(4 / 5)
    # bins 10 and 11 hold 0.7 (one right, one wrong: -0.7 + 0.3) and 0.8, bin 12 0.85, bins 13 and 14 0.9 and 0.95
    assert value["expected_calibration_error"] == pytest.approx((0.4 + 0.2 + 0.15 + 0.1 + 0.05) / 6)


def test_one_class_only():
    outcome = Predictions(np.zeros(3, int), np.zeros(3, int), np.tile([0.8, 0.2], (3, 1)))
    value = {name: metric.function(outcome) for name, metric in SINGLE_LABEL.items()}
    assert value["accuracy"] == value["macro_f1"] == 1 and value["matthews_correlation"] == 0
    assert isnan(value["cohen_kappa"])


def test_what_the_rows_do_not_define_is_nan():
    nothing = several(1, 3, 0).take(np.array([], int))
    assert all(isnan(metric.function(nothing)) for metric in MULTI_LABEL.values())
    no_rows = single(2, 3, 0).take(np.array([], int))
    assert all(isnan(metric.function(no_rows)) for metric in SINGLE_LABEL.values())
    no_labels = Predictions(np.zeros((2, 3)), np.zeros((2, 3)), np.full((2, 3), 0.1))
    assert isnan(MULTI_LABEL["macro_f1"].function(no_labels)) and isnan(MULTI_LABEL["micro_f1"].function(no_labels))
    assert MULTI_LABEL["subset_accuracy"].function(no_labels) == 1


def test_impossible_gold_label_has_a_finite_loss():
    outcome = Predictions(np.array([0]), np.array([1]), np.array([[0.0, 1.0]], dtype=np.float32))
    assert SINGLE_LABEL["log_loss"].function(outcome) == pytest.approx(-log(np.finfo(np.float32).eps))


@pytest.mark.parametrize("whole", [single(60, 9, 1), several(60, 9, 1)])
def test_taken_rows_score_as_if_they_were_all(whole):
    """What `take` carries along from the whole must be what the rows alone would give."""
    table = MULTI_LABEL if whole.multi_label else SINGLE_LABEL
    for metric in table.values():
        metric.function(whole)
    rows = np.array([3, 3, 59, 0, 17])
    alone = Predictions(whole.gold[rows], whole.guess[rows], whole.probabilities[rows])
    for metric in table.values():
        assert metric.function(whole.take(rows)) == pytest.approx(metric.function(alone), abs=1e-12)


@pytest.mark.parametrize(
    "name", [f"single {name}" for name in SINGLE_LABEL] + [f"several {name}" for name in MULTI_LABEL]
)
def test_every_metric_has_a_meaning_and_knows_which_scores_are_better(name):
    kind, _, name = name.partition(" ")
    metric = SINGLE_LABEL[name] if kind == "single" else MULTI_LABEL[name]
    labels = np.eye(4, dtype=int)[np.arange(40) % 4]
    gold = labels.argmax(axis=1) if kind == "single" else labels
    perfect, wrong = np.clip(labels, 0.01, 0.97), np.clip(np.roll(labels, 1, axis=1), 0.01, 0.97)
    scores = []
    for probabilities in (perfect, wrong):
        guess = (probabilities > 0.5).astype(int) if gold.ndim == 2 else probabilities.argmax(axis=1)
        scores.append(metric.function(Predictions(gold, guess, probabilities)))
    assert metric.meaning and (scores[0] > scores[1]) == metric.higher_is_better


def test_per_class():
    a, b, c, d = per_class(BY_HAND, ["a", "b", "c", "d"])
    assert a == {"label": "a", "precision": 1, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2}
    assert b == {"label": "b", "precision": pytest.approx(1 / 3), "recall": 1, "f1": 0.5, "support": 1}
    assert c == {"label": "c", "precision": 0, "recall": 0, "f1": 0, "support": 1}
    assert d["support"] == 0 and all(isnan(d[name]) for name in ("precision", "recall", "f1"))
    outcome = several(200, 6, 0)
    assert [record["support"] for record in per_class(outcome, list("abcdef"))] == outcome.gold.sum(axis=0).tolist()
    with pytest.raises(ValueError):
        per_class(BY_HAND, ["a", "b"])


@pytest.mark.parametrize("kind", [np.int64, np.int8])
def test_confusion_matrix(kind):
    outcome = single(500, 77, 0, 60)
    small = Predictions(outcome.gold.astype(kind), outcome.guess.astype(kind), outcome.probabilities)
    expected = reference.confusion_matrix(outcome.gold, outcome.guess, labels=range(77))
    np.testing.assert_array_equal(confusion_matrix(small), expected)
    with pytest.raises(ValueError, match="exactly one label per row"):
        confusion_matrix(several(5, 3, 0))


@pytest.mark.parametrize("outcome", [single(500, 5, 0), several(200, 5, 0)])
def test_calibration_agrees_with_its_error(outcome):
    bins = calibration(outcome)
    assert bins.decisions.sum() == outcome.gold.size
    error = np.nansum(bins.decisions * abs(bins.accuracy - bins.confidence)) / bins.decisions.sum()
    assert error == pytest.approx(SINGLE_LABEL["expected_calibration_error"].function(outcome))


def test_outcomes_that_do_not_fit_together_are_refused():
    with pytest.raises(ValueError, match="number of rows"):
        Predictions(np.zeros(3, int), np.zeros(2, int), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="probabilities"):
        SINGLE_LABEL["macro_f1"].function(Predictions(np.zeros(3, int), np.zeros(3, int)))
