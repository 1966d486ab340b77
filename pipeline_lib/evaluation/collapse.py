"""A model that answers every row alike has learned nothing: its score can look fine where one class is frequent."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline_lib.evaluation.predictions import Predictions

LEAST_ROWS = 5
"""With fewer rows equal answers can be chance."""
FLAT = 0.01
"""Predicted numbers whose range is below this share of the true numbers' deviation are one number."""


def collapse_of(outcome: Any, predictions: Sequence[Any], errors: np.ndarray | None) -> str | None:
    """Say how a model has collapsed, in a sentence; None where it has not.

    Args:
        outcome: An Outcome or Sums of n rows.
        predictions: [n] answers in the user's terms: a label, a list of labels or tags, a number or a text.
        errors: [n] how wrong each answer is, where rows have errors of their own.
    """
    if len(predictions) < LEAST_ROWS or len(predictions) != len(outcome):
        return None
    if isinstance(outcome, Predictions):
        if np.all(outcome.gold == outcome.gold[0]):  # then one answer for all is right
            return None
        if outcome.probabilities is None:
            return _flat_numbers(outcome)
    elif errors is None or not np.any(errors):
        return None
    return _same_answer(predictions)


def _flat_numbers(outcome: Predictions) -> str | None:
    if np.ptp(outcome.guess) > FLAT * np.std(outcome.gold):
        return None
    return f"all {len(outcome):,} test rows are answered with about the same number ({np.mean(outcome.guess):.6g})"


def _same_answer(predictions: Sequence[Any]) -> str | None:
    """Of tags, a token is an answer; of labels, all that a row is given together."""
    first = predictions[0]
    tags = isinstance(first, (list, tuple)) and len({len(each) for each in predictions}) > 1
    answers = [tag for each in predictions for tag in each] if tags else [_comparable(each) for each in predictions]
    if len(set(answers)) != 1:
        return None
    what = f"tokens of all {len(predictions):,} test rows" if tags else f"{len(predictions):,} test rows"
    named = "no label" if answers[0] == () else "an empty text" if answers[0] == "" else repr(_shown(answers[0]))
    return f"all {what} are answered with {named}"


def _comparable(answer: Any) -> Any:
    return tuple(answer) if isinstance(answer, (list, tuple)) else answer


def _shown(answer: Any) -> Any:
    return ", ".join(map(str, answer)) if isinstance(answer, tuple) else answer
