"""Detect collapsed models: those that give every row the same answer.

Such a model has learned nothing, but its score can look fine if one class is frequent.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline_lib.evaluation.predictions import Predictions

LEAST_ROWS = 5
"""With fewer rows, equal answers can be chance."""
FLAT = 0.01
"""Predicted numbers count as equal if their range is at most this share of the gold numbers' standard deviation."""


def collapse_of(outcome: Any, predictions: Sequence[Any], errors: np.ndarray | None) -> str | None:
    """Describe how a model has collapsed in one sentence, or return None if it has not.

    Args:
        outcome: Predictions or RowCounts of n rows.
        predictions: [n] predictions as the user sees them: a label, a list of labels or tags, a number or a text.
        errors: [n] the error of each prediction, if the objective defines errors by row.
    """
    if len(predictions) < LEAST_ROWS or len(predictions) != len(outcome):
        return None
    if isinstance(outcome, Predictions):
        if np.all(outcome.gold == outcome.gold[0]):  # the same answer for all rows is right
            return None
        if outcome.probabilities is None:
            return _flat_numbers(outcome)
    elif errors is None or not np.any(errors):
        return None
    return _same_answer(predictions)


def _flat_numbers(outcome: Predictions) -> str | None:
    if np.ptp(outcome.guess) > FLAT * np.std(outcome.gold):
        return None
    return f"all {len(outcome):,} test rows get about the same prediction ({np.mean(outcome.guess):.6g})"


def _same_answer(predictions: Sequence[Any]) -> str | None:
    """Compare token by token if predictions are tags, else row by row."""
    first = predictions[0]
    # lists of different lengths can only be collapsed if they are tags, one for each token of a row
    tags = isinstance(first, (list, tuple)) and len({len(prediction) for prediction in predictions}) > 1
    if tags:
        answers = [tag for prediction in predictions for tag in prediction]
        subject = f"tokens of all {len(predictions):,} test rows"
    else:
        answers = [_comparable(prediction) for prediction in predictions]
        subject = f"{len(predictions):,} test rows"
    if len(set(answers)) != 1:
        return None
    return f"all {subject} get the same prediction: {_describe(answers[0])}"


def _describe(answer: Any) -> str:
    if answer == ():
        return "no label"
    return "an empty text" if answer == "" else repr(_format_answer(answer))


def _comparable(answer: Any) -> Any:
    return tuple(answer) if isinstance(answer, (list, tuple)) else answer


def _format_answer(answer: Any) -> Any:
    return ", ".join(map(str, answer)) if isinstance(answer, tuple) else answer
