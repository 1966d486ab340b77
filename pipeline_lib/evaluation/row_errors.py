"""The error and the margin of each row's prediction, used to pick examples for the report."""

from typing import NamedTuple

import numpy as np

from pipeline_lib.evaluation.predictions import Predictions, RowCounts


class RowErrors(NamedTuple):
    """The errors [n] of n rows, higher is worse, their unit, and the margins [n] by which predictions were chosen.

    A small margin means an uncertain prediction, right or wrong; None if the model gives no alternatives.
    """

    unit: str
    error: np.ndarray
    margin: np.ndarray | None = None


def classification_errors(outcome: Predictions) -> RowErrors:
    """The mean surprise of a row's decisions, -ln p(gold) in nats, and the smallest margin among them.

    The margin for one label per row is p(first) - p(second) (Scheffer et al. 2001, "Active hidden Markov models for
    information extraction", section 3); for several labels per row it is |p - (1 - p)| of each label.
    """
    chances = outcome.chances.astype(np.float64)
    if outcome.multi_label:
        right = np.where(outcome.gold, chances, 1 - chances)
        return RowErrors("surprise in nats", _surprise(right).mean(axis=1), np.abs(2 * chances - 1).min(axis=1))
    right = chances[np.arange(len(outcome)), outcome.gold]
    second, first = np.sort(chances, axis=1)[:, -2:].T
    return RowErrors("surprise in nats", _surprise(right), first - second)


def regression_errors(outcome: Predictions) -> RowErrors:
    """The distance from the true number, in the unit of the data."""
    return RowErrors("absolute error", np.abs(outcome.guess.astype(np.float64) - outcome.gold))


def span_errors(sums: RowCounts) -> RowErrors:
    """The number of missed and of wrongly predicted spans in a sentence."""
    gold, guess, hits = (sums.counts[name].sum(axis=1) for name in ("gold", "guess", "hits"))
    return RowErrors("wrong spans", (gold + guess - 2 * hits).astype(np.float64))


def answer_errors(sums: RowCounts) -> RowErrors:
    """1 - F1 of the answer's words, in [0, 1]."""
    return RowErrors("1 - F1", 1 - sums.counts["f1"])


def text_errors(sums: RowCounts) -> RowErrors:
    """100 - chrF of each generated text by itself, from 0 to 100."""
    from pipeline_lib.evaluation.metrics.generation import chrf

    rows = (sums.take(np.array([row])) for row in range(len(sums)))
    return RowErrors("100 - chrF", np.array([100 - chrf(row) for row in rows], np.float64))


def preference_errors(sums: RowCounts) -> RowErrors:
    """By how much the rejected answer's reward exceeds the chosen one's, at least 0; the margin is their distance.

    For single answers, 1 for those on the wrong side of the reference point.
    """
    if "margin" not in sums.counts:
        return RowErrors("wrong side", 1 - sums.counts["right"])
    margin = sums.counts["margin"]
    return RowErrors("reward", np.maximum(0, -margin), np.abs(margin))


def _surprise(chances: np.ndarray) -> np.ndarray:
    """-ln p, with p at least one float epsilon, as in the metric."""
    return -np.log(np.clip(chances, np.finfo(np.float32).eps, 1))
