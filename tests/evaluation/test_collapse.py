"""A model that answers all rows alike is called collapsed, and no other is. `pytest tests/evaluation`"""

import numpy as np
import pytest

from pipeline_lib.evaluation.collapse import collapse_of
from pipeline_lib.evaluation.predictions import Predictions, RowCounts

ROWS = 20
GOLD = np.arange(ROWS) % 2


def labelled(guess, gold=GOLD):
    return Predictions(gold, guess, np.eye(2)[guess])


def numbers(guess, gold=GOLD):
    return Predictions(gold.astype(float), np.asarray(guess, float))


def counted(rows=ROWS):
    return RowCounts({"tokens": np.ones(rows)})


WRONG = np.ones(ROWS)
COLLAPSED = {
    "one class": (labelled(GOLD * 0), ["no"] * ROWS, None, "all 20 test rows get the same prediction: 'no'"),
    "no label at all": (
        Predictions(np.eye(2)[GOLD], np.zeros((ROWS, 2)), np.zeros((ROWS, 2))),
        [[]] * ROWS,
        None,
        "prediction: no label",
    ),
    "a constant": (numbers([0.5] * ROWS), [0.5] * ROWS, WRONG, "about the same prediction (0.5)"),
    "next to a constant": (numbers(0.5 + GOLD * 1e-4), list(0.5 + GOLD * 1e-4), WRONG, "about the same prediction"),
    "all O": (counted(), [["O"] * (1 + row % 3) for row in range(ROWS)], WRONG, "tokens of all 20 test rows"),
    "one text": (counted(), ["yes"] * ROWS, WRONG, "prediction: 'yes'"),
    "nothing is written": (counted(), [""] * ROWS, WRONG, "an empty text"),
}
SOUND = {
    "two classes": (labelled(1 - GOLD), ["yes", "no"] * (ROWS // 2), None),
    "one class, and it is right": (labelled(GOLD * 0, GOLD * 0), ["no"] * ROWS, None),
    "numbers that vary": (numbers(GOLD * 0.1), list(GOLD * 0.1), WRONG),
    "tags that vary": (counted(), [["O", "B-x"], ["O"]] * (ROWS // 2), WRONG),
    "one text, and it is right": (counted(), ["yes"] * ROWS, WRONG * 0),
    "too few rows to say": (labelled(GOLD[:2] * 0, GOLD[:2]), ["no"] * 2, None),
    "rows without answers": (counted(), [], None),
}


@pytest.mark.parametrize(("outcome", "predictions", "errors", "said"), COLLAPSED.values(), ids=COLLAPSED)
def test_a_model_that_answers_all_alike_is_called_collapsed(outcome, predictions, errors, said):
    assert said in collapse_of(outcome, predictions, errors)


@pytest.mark.parametrize(("outcome", "predictions", "errors"), SOUND.values(), ids=SOUND)
def test_any_other_is_not(outcome, predictions, errors):
    assert collapse_of(outcome, predictions, errors) is None
