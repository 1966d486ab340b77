"""How wrong and how doubtful an answer is, row by row: what sorts examples for whoever looks at them."""

from typing import NamedTuple

import numpy as np

from pipeline_lib.evaluation.predictions import Predictions, RowCounts


class RowErrors(NamedTuple):
    """Of n rows: `error` [n], the higher the worse, in what `unit` says; `margin` [n] by which the answer was chosen.

    A small margin is a doubtful answer, right or wrong; None where the model does not tell what it has chosen from.
    """

    unit: str
    error: np.ndarray
    margin: np.ndarray | None = None


def of_labels(outcome: Predictions) -> RowErrors:
    """The mean surprise of a row's decisions, -ln p of what is right in nats, and the least margin among them.

    The margin of one label a row is p(first) - p(second) (Scheffer et al. 2001, "Active hidden Markov models for
    information extraction", section 3); of a label that is given or not, |p - (1 - p)|.
    """
    chances = outcome.chances.astype(np.float64)
    if outcome.multi_label:
        right = np.where(outcome.gold, chances, 1 - chances)
        return RowErrors("surprise in nats", _surprise(right).mean(axis=1), np.abs(2 * chances - 1).min(axis=1))
    right = chances[np.arange(len(outcome)), outcome.gold]
    second, first = np.sort(chances, axis=1)[:, -2:].T
    return RowErrors("surprise in nats", _surprise(right), first - second)


def of_numbers(outcome: Predictions) -> RowErrors:
    """The distance from the true number, in the unit of the data."""
    return RowErrors("absolute error", np.abs(outcome.guess.astype(np.float64) - outcome.gold))


def of_spans(sums: RowCounts) -> RowErrors:
    """Spans of a sentence that are missed, and spans that are given and wrong."""
    gold, guess, hits = (sums.counts[name].sum(axis=1) for name in ("gold", "guess", "hits"))
    return RowErrors("wrong spans", (gold + guess - 2 * hits).astype(np.float64))


def of_answers(sums: RowCounts) -> RowErrors:
    """What an answer lacks of its right answer's words: 1 - F1, in [0, 1]."""
    return RowErrors("1 - F1", 1 - sums.counts["f1"])


def of_text(sums: RowCounts) -> RowErrors:
    """What a written text lacks of its reference: 100 - chrF of this text alone, from 0 to 100."""
    from pipeline_lib.evaluation.metrics.generation import chrf

    rows = (sums.take(np.array([row])) for row in range(len(sums)))
    return RowErrors("100 - chrF", np.array([100 - chrf(row) for row in rows], np.float64))


def of_preferences(sums: RowCounts) -> RowErrors:
    """By how much the reward of the wrong answer is higher, 0 where it is not; the margin is the rewards' distance.

    Of single answers, 1 for those on the wrong side of the reference point.
    """
    if "margin" not in sums.counts:
        return RowErrors("wrong side", 1 - sums.counts["right"])
    margin = sums.counts["margin"]
    return RowErrors("reward", np.maximum(0, -margin), np.abs(margin))


def _surprise(chances: np.ndarray) -> np.ndarray:
    """As in the metric, p is kept a float epsilon from 0."""
    return -np.log(np.clip(chances, np.finfo(np.float32).eps, 1))
