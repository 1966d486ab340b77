"""Pseudo-answers added to the test rows, so that small test sets do not get intervals that are too narrow.

If all ten rows of a class are right, every resample of them is right as well, and the interval would have no width.
As Agresti & Coull (1998), "Approximate is Better than 'Exact' for Interval Estimation of Binomial Proportions", add
successes and failures to a proportion, one right and one wrong answer are added to the whole test set, divided among
its classes. With two classes, each gets half of both: the Jeffreys prior, whose coverage is shown by Brown, Cai &
DasGupta (2001), "Interval Estimation for a Binomial Proportion", section 4.1.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from pipeline_lib.evaluation.predictions import Predictions, RowValues


class AddedAnswers(NamedTuple):
    """m pseudo-answers: their weights [m], and their values [m] or [m, k] by the name of the total."""

    weights: np.ndarray
    values: Mapping[str, np.ndarray]

    def values_of(self, name: str, rows: RowValues) -> np.ndarray:
        """The values for a total; if they have none, the mean of the rows, which leaves the mean unchanged."""
        if name in self.values:
            return self.values[name]
        mean = np.asarray(rows.total(name), float) / max(len(rows), 1)
        return np.broadcast_to(mean, (len(self.weights), *mean.shape))


def answers_to_add(rows: RowValues) -> AddedAnswers:
    """The answers to add to predictions; none for numbers and for scores that are not shares."""
    if isinstance(rows, Predictions):
        if rows.probabilities is None:
            return _none()
        return _several_labels(rows) if rows.multi_label else _one_label(rows)
    counts: Mapping[str, Any] = getattr(rows, "counts", {})
    if "hits" in counts:
        return _class_answers(rows)
    if "answerable" in counts:
        return _questions(rows)
    return _yes_or_no(counts)


def _none() -> AddedAnswers:
    return AddedAnswers(np.zeros(0), {})


def _present_classes(rows: RowValues) -> np.ndarray:
    """Indices of the classes that occur in gold or guess."""
    return np.flatnonzero(np.asarray(rows.total("gold")) + rows.total("guess") > 0)


def _one_label(rows: Predictions) -> AddedAnswers:
    """For each class one right row, and one row mistaken for the next class."""
    present, classes = _present_classes(rows), rows.chances.shape[1]
    hot, nothing = np.eye(classes)[present], np.zeros((len(present), classes))
    right = np.repeat([1.0, 0.0], len(present))
    values = {
        "gold": np.concatenate([hot, hot]),
        "guess": np.concatenate([hot, np.roll(hot, 1, axis=0)]),
        "hits": np.concatenate([hot, nothing]),
        "right": right,
    }
    values["surprise"] = np.where(right > 0, *_surprises(rows))
    if len(present) == 1:  # no other class to be mistaken for
        values["guess"] = np.concatenate([hot, nothing])
    return AddedAnswers(np.full(2 * len(present), 1 / max(len(present), 1)), values)


def _surprises(rows: Predictions) -> tuple[float, float]:
    """The mean negative log-probability of rows if all predictions were right, and if all were wrong.

    A test set with few wrong rows does not show how much the next one costs; the probabilities do.
    """
    smallest = np.finfo(rows.chances.dtype).eps
    confidence = np.clip(rows.confidence, smallest, 1)
    other = np.clip((1 - confidence) / max(rows.chances.shape[1] - 1, 1), smallest, 1)
    return float(-np.log(confidence).mean()), float(-np.log(other).mean())


def _class_answers(rows: RowValues) -> AddedAnswers:
    """For each class one hit, one miss and one false alarm."""
    present, classes = _present_classes(rows), np.shape(rows.total("gold"))[-1]
    hot, nothing = np.eye(classes)[present], np.zeros((len(present), classes))
    values = {
        "gold": np.concatenate([hot, hot, nothing]),
        "guess": np.concatenate([hot, nothing, hot]),
        "hits": np.concatenate([hot, nothing, nothing]),
    }
    weights = np.repeat([1.0, 0.5, 0.5], len(present)) / max(len(present), 1)
    return AddedAnswers(weights, values)


def _several_labels(rows: Predictions) -> AddedAnswers:
    added = _class_answers(rows)
    right = added.values["hits"].sum(axis=1)
    return AddedAnswers(added.weights, {**added.values, "right": right})


def _questions(rows: RowValues) -> AddedAnswers:
    """One right and one wrong question, answerable in the same proportion as the actual ones."""
    answerable = float(np.mean(rows.row_values("answerable"))) if len(rows) else 0.0
    right = np.array([1.0, 0.0])
    shares = {"exact": right, "f1": right, "answerable_f1": answerable * right}
    return AddedAnswers(np.ones(2), {**shares, "no_answer_right": (1 - answerable) * right})


def _yes_or_no(counts: Mapping[str, np.ndarray]) -> AddedAnswers:
    """One row with 1 and one row with 0 for all counts that only have these values."""
    binary = {name for name, values in counts.items() if values.ndim == 1 and np.isin(values, (0, 1)).all()}
    return AddedAnswers(np.ones(2), {name: np.array([1.0, 0.0]) for name in binary}) if binary else _none()


def _class_counts(rows: RowValues, name: str) -> np.ndarray | Any | None:
    """[n, K] how often each class is gold (or "guess": predicted) in each row; None if there are no classes."""
    if isinstance(rows, Predictions):
        has_classes = rows.probabilities is not None
    else:
        has_classes = "hits" in getattr(rows, "counts", {})
    return rows.row_values(name) if has_classes else None


def class_groups(rows: RowValues, group_of_row: np.ndarray, name: str = "gold") -> tuple[np.ndarray, np.ndarray] | None:
    """The groups in which each class is gold (or "guess": predicted); None if there are no classes or no rows.

    Returns:
        [2, pairs] each (group, class) once, and [K] the number of groups of each class.
    """
    counts = _class_counts(rows, name)
    if counts is None or not len(rows):
        return None
    row, label = counts.nonzero()
    pairs = np.unique(np.stack([group_of_row[row], label]), axis=1)
    return pairs, np.bincount(pairs[1]) if pairs.size else np.zeros(0)
