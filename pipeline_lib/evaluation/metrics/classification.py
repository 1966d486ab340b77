"""Metrics of single-label and multi-label classification.

Precision, recall and F1 follow Manning, Raghavan & Schütze (2008), "Introduction to Information Retrieval",
sections 8.3 and 13.6 (macro and micro averages). As in scikit-learn, a ratio with denominator 0 is 0.
Macro averages leave out a class that occurs in neither the gold labels nor the predictions.
If no class is left, or there are no rows, a metric is nan.
"""

from collections.abc import Callable, Sequence
from math import inf, nan
from typing import Any, NamedTuple

import numpy as np

from pipeline_lib.evaluation.metrics.class_counts import Measure, tally_of
from pipeline_lib.evaluation.predictions import BINS, Metric, Predictions, calibration_bin
from pipeline_lib.evaluation.totals import Totals, ratio


def _macro(measure: Measure) -> Callable[[Totals], Any]:
    """The macro average of a measure: the unweighted mean over the classes that are present."""
    return lambda totals: tally_of(totals).mean(measure)


def _micro(measure: Measure) -> Callable[[Totals], Any]:
    """The micro average of a measure: the decisions of all classes pooled."""
    return lambda totals: tally_of(totals).pooled.mean(measure)


def _weighted_f1(totals: Totals) -> Any:
    tally = tally_of(totals)
    return ratio((tally.f1 * tally.gold).sum(axis=-1), tally.gold.sum(axis=-1), nan)


def accuracy(totals: Totals) -> Any:
    """Share of rows, in [0, 1], that are right; with several labels per row, all of them must be."""
    return totals.mean("right")


def matthews_correlation(totals: Totals) -> Any:
    """R_K, from -1 to 1; 0 if all rows have the same gold label or the same prediction, as in scikit-learn.

    Gorodkin (2004), "Comparing two K-category assignments by a K-category correlation coefficient", eq. 8.
    """
    gold, guess, hits = tally_of(totals)
    rows = totals.total("rows")
    spread = (rows**2 - (gold * gold).sum(axis=-1)) * (rows**2 - (guess * guess).sum(axis=-1))
    correlation = ratio(hits.sum(axis=-1) * rows - (gold * guess).sum(axis=-1), np.sqrt(np.maximum(spread, 0)), 0.0)
    return np.where(np.asarray(rows) > 0, correlation, nan)[()]


def cohen_kappa(totals: Totals) -> Any:
    """(p_o - p_e) / (1 - p_e), from -1 to 1, for p_o the accuracy and p_e that of chance with the same label counts.

    Cohen (1960), "A Coefficient of Agreement for Nominal Scales", eq. 1. As in scikit-learn, it is nan if all gold
    labels and predictions are the same label.
    """
    gold, guess, hits = tally_of(totals)
    rows, chance = totals.total("rows"), (gold * guess).sum(axis=-1)
    return ratio(hits.sum(axis=-1) * rows - chance, rows**2 - chance, nan)


def expected_calibration_error(totals: Totals) -> Any:
    """Expected calibration error, in [0, 1], with 15 bins of equal width.

    Guo et al. (2017), "On Calibration of Modern Neural Networks", eq. 3. With several labels per row, each label is a
    decision with confidence p if it is predicted and 1 - p if not. |B_m| / n * |acc - conf| of a bin equals the
    absolute value of its summed gaps, divided by n.
    """
    return ratio(np.abs(totals.total("gaps")).sum(axis=-1), totals.total("decisions"), nan)


def log_loss(totals: Totals) -> Any:
    """Mean of -ln p(gold), in nats; Bishop (2006), "Pattern Recognition and Machine Learning", eq. 4.108.

    As in scikit-learn, p is at least one float epsilon, so that a single row with p = 0 does not make it infinite.
    """
    return totals.mean("surprise")


def hamming_loss(totals: Totals) -> Any:
    """Share of all n * K label decisions, in [0, 1], that are wrong; Schapire & Singer (2000), "BoosTexter"."""
    gold, guess, hits = (counts.sum(axis=-1) for counts in tally_of(totals))
    return ratio(gold + guess - 2 * hits, totals.total("decisions"), nan)


_SHARED = {
    "macro_f1": Metric(
        _macro("f1"),
        True,
        "balance of precision and recall, averaged equally over labels",
        bounds=(0, 1),
        by_class=True,
    ),
    "micro_f1": Metric(
        _micro("f1"), True, "balance of precision and recall over all decisions together", bounds=(0, 1)
    ),
    "macro_precision": Metric(
        _macro("precision"),
        True,
        "share of predictions that are right, averaged over labels",
        bounds=(0, 1),
        by_class=True,
    ),
    "macro_recall": Metric(
        _macro("recall"),
        True,
        "share of each label's rows that are found, averaged over labels",
        bounds=(0, 1),
        by_class=True,
    ),
    "expected_calibration_error": Metric(
        expected_calibration_error,
        False,
        "mean gap between the model's confidence and its accuracy",
        bounds=(0, 1),
        folded="gaps",
    ),
}

SINGLE_LABEL: dict[str, Metric] = {
    "accuracy": Metric(accuracy, True, "share of rows whose label is right", bounds=(0, 1)),
    **_SHARED,
    "weighted_f1": Metric(
        _weighted_f1, True, "balance of precision and recall, labels weighted by their rows", bounds=(0, 1)
    ),
    "matthews_correlation": Metric(
        matthews_correlation,
        True,
        "correlation of predicted and gold label: 1 = perfect, 0 = no better than chance",
        bounds=(-1, 1),
    ),
    "cohen_kappa": Metric(
        cohen_kappa,
        True,
        "agreement with the gold labels beyond chance: 1 = perfect, 0 = no better than chance",
        bounds=(-1, 1),
    ),
    "log_loss": Metric(
        log_loss, False, "negative log-probability of the right label, in nats: 0 = always certain", bounds=(0, inf)
    ),
}

MULTI_LABEL: dict[str, Metric] = {
    "subset_accuracy": Metric(accuracy, True, "share of rows whose labels are all right", bounds=(0, 1)),
    **_SHARED,
    "micro_precision": Metric(_micro("precision"), True, "share of all predicted labels that are right", bounds=(0, 1)),
    "micro_recall": Metric(_micro("recall"), True, "share of all gold labels that are found", bounds=(0, 1)),
    "hamming_loss": Metric(hamming_loss, False, "share of yes-or-no label decisions that are wrong", bounds=(0, 1)),
}


def per_class(outcome: Predictions, labels: Sequence[str]) -> list[dict[str, Any]]:
    """One record per class, in the order of `labels` [K]: label, precision, recall, f1, support (its gold rows).

    The three measures are nan for a class in neither gold nor guess.

    Raises:
        ValueError: Unless there are K labels.
    """
    return outcome.tally.records(labels)


def confusion_matrix(outcome: Predictions) -> np.ndarray:
    """Counts [K, K], int64: gold label by row, prediction by column. Raises ValueError for several labels per row."""
    if outcome.multi_label:
        raise ValueError("a confusion matrix needs exactly one label per row")
    classes = outcome.chances.shape[1]
    cells = outcome.gold.astype(np.int64) * classes + outcome.guess  # int8 class indices would overflow
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


class Calibration(NamedTuple):
    """For each confidence bin, [BINS] each: number of decisions, mean confidence, share right; nan in empty bins."""

    decisions: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def calibration(outcome: Predictions) -> Calibration:
    """The data of a reliability diagram; Guo et al. (2017), section 2."""
    confidence, right = outcome.confidence.ravel(), (outcome.gold == outcome.guess).ravel()
    bins = calibration_bin(confidence)
    count, sure, hits = (np.bincount(bins, weights, minlength=BINS) for weights in (None, confidence, right))
    means = (ratio(sums, count, nan) for sums in (sure, hits))
    return Calibration(count, *means)
