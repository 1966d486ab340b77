"""Added answers: what the test rows do not show because they are few.

Where all ten rows of a class are answered correctly, every resample of them is correct, too, and an interval would
have no width. As Agresti & Coull (1998), "Approximate is Better than 'Exact' for Interval Estimation of Binomial
Proportions", add successes and failures to a proportion, one right and one wrong answer are added here to the whole
test set, divided among its classes. For two classes that is half of each a class: the Jeffreys prior, of which Brown,
Cai & DasGupta (2001), "Interval Estimation for a Binomial Proportion", section 4.1, show the coverage.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from pipeline_lib.evaluation.metrics.class_counts import ClassCounts
from pipeline_lib.evaluation.predictions import Predictions, RowValues


class AddedAnswers(NamedTuple):
    """m answers that are added: the weight of each [m], and their values [m] or [m, k] by the name of the total."""

    weights: np.ndarray
    values: Mapping[str, np.ndarray]

    def of(self, name: str, rows: RowValues) -> np.ndarray:
        """Their values; of a total that they say nothing about the mean of the rows, which leaves it as it is."""
        if name in self.values:
            return self.values[name]
        mean = np.asarray(rows.total(name), float) / max(len(rows), 1)
        return np.broadcast_to(mean, (len(self.weights), *mean.shape))


def added_answers(rows: RowValues) -> AddedAnswers:
    """The answers to add to an outcome; none for numbers and for scores that are no shares."""
    if isinstance(rows, Predictions):
        if rows.probabilities is None:
            return _none()
        return _several_labels(rows) if rows.multi_label else _one_label(rows)
    counts: Mapping[str, Any] = getattr(rows, "counts", {})
    if "hits" in counts:
        return _by_class(rows)
    if "answerable" in counts:
        return _questions(rows)
    return _yes_or_no(counts)


def _none() -> AddedAnswers:
    return AddedAnswers(np.zeros(0), {})


def _present(rows: RowValues) -> np.ndarray:
    return np.flatnonzero(np.asarray(rows.total("gold")) + rows.total("guess") > 0)


def _one_label(rows: Predictions) -> AddedAnswers:
    """For each class a row that is right, and one that is taken for the next class."""
    present, classes = _present(rows), rows.chances.shape[1]
    hot, nothing = np.eye(classes)[present], np.zeros((len(present), classes))
    right = np.repeat([1.0, 0.0], len(present))
    values = {
        "gold": np.concatenate([hot, hot]),
        "guess": np.concatenate([hot, np.roll(hot, 1, axis=0)]),
        "hits": np.concatenate([hot, nothing]),
        "right": right,
    }
    if len(present) == 1:  # nothing to be taken for
        values["guess"] = np.concatenate([hot, nothing])
    return AddedAnswers(np.full(2 * len(present), 1 / max(len(present), 1)), values)


def _by_class(rows: RowValues) -> AddedAnswers:
    """For each class one that is found, one that is missed, and one that is given and wrong."""
    present, classes = _present(rows), np.shape(rows.total("gold"))[-1]
    hot, nothing = np.eye(classes)[present], np.zeros((len(present), classes))
    values = {
        "gold": np.concatenate([hot, hot, nothing]),
        "guess": np.concatenate([hot, nothing, hot]),
        "hits": np.concatenate([hot, nothing, nothing]),
    }
    weights = np.repeat([1.0, 0.5, 0.5], len(present)) / max(len(present), 1)
    return AddedAnswers(weights, values)


def _several_labels(rows: Predictions) -> AddedAnswers:
    added = _by_class(rows)
    right = added.values["hits"].sum(axis=1)
    return AddedAnswers(added.weights, {**added.values, "right": right})


def _questions(rows: RowValues) -> AddedAnswers:
    """A question that is answered correctly and one that is not, with an answer as often as the others have one."""
    answerable = float(np.mean(rows.row_values("answerable"))) if len(rows) else 0.0
    right = np.array([1.0, 0.0])
    shares = {"exact": right, "f1": right, "answerable_f1": answerable * right}
    return AddedAnswers(np.ones(2), {**shares, "no_answer_right": (1 - answerable) * right})


def _yes_or_no(counts: Mapping[str, np.ndarray]) -> AddedAnswers:
    """A row with and one without whatever each row has or has not."""
    either = {name for name, values in counts.items() if values.ndim == 1 and np.isin(values, (0, 1)).all()}
    return AddedAnswers(np.ones(2), {name: np.array([1.0, 0.0]) for name in either}) if either else _none()


def class_counts(rows: RowValues) -> np.ndarray | Any | None:
    """[n, K] how often each row counts for each class; None where there are no classes."""
    known = rows.probabilities is not None if isinstance(rows, Predictions) else "hits" in getattr(rows, "counts", {})
    return rows.row_values(ClassCounts._fields[0]) if known else None
