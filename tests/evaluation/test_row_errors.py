"""Which rows are looked at first, worked out by hand. `pytest tests/evaluation/test_row_errors.py`."""

from math import log

import numpy as np
import pyarrow as pa
import pytest

from pipeline_lib.evaluation.example_rows import examples
from pipeline_lib.evaluation.metrics.generation import text_counts
from pipeline_lib.evaluation.metrics.spans import span_counts
from pipeline_lib.evaluation.predictions import Predictions, RowCounts
from pipeline_lib.evaluation.report.figures import error_by_length
from pipeline_lib.evaluation.row_errors import (
    RowErrors,
    answer_errors,
    classification_errors,
    regression_errors,
    span_errors,
    text_errors,
)

CHANCES = np.array([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25], [0.05, 0.05, 0.9]])


def test_of_one_label_the_surprise_and_the_margin_to_the_second():
    found = classification_errors(Predictions(np.array([0, 0, 1]), CHANCES.argmax(1), CHANCES))
    assert found.error == pytest.approx([-log(0.7), -log(0.4), -log(0.05)])
    assert found.margin == pytest.approx([0.5, 0.05, 0.85])


def test_of_several_labels_the_mean_surprise_and_the_least_margin():
    gold = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]])
    found = classification_errors(Predictions(gold, (CHANCES > 0.5).astype(int), CHANCES))
    assert found.error[0] == pytest.approx(-(log(0.7) + log(0.8) + log(0.9)) / 3)
    assert found.error[1] == pytest.approx(-(log(0.4) + log(0.35) + log(0.75)) / 3)
    assert found.margin == pytest.approx([0.4, 0.2, 0.8])


def test_an_impossible_label_is_not_infinitely_wrong():
    assert np.isfinite(
        classification_errors(Predictions(np.array([0]), np.array([1]), np.array([[0.0, 1.0]]))).error
    ).all()


def test_of_numbers_spans_answers_and_texts():
    numbers = regression_errors(Predictions(np.array([1.0, 2.0]), np.array([1.5, -1.0])))
    assert numbers.error == pytest.approx([0.5, 3.0]) and numbers.margin is None
    gold = [["B-who", "O", "B-where"], ["O", "O"], ["B-who", "I-who"]]
    guess = [["B-who", "O", "O"], ["O", "B-who"], ["B-who", "I-who"]]
    assert span_errors(RowCounts(span_counts(gold, guess, ["where", "who"]))).error.tolist() == [1, 1, 0]
    assert answer_errors(RowCounts({"f1": np.array([1.0, 0.25])})).error == pytest.approx([0, 0.75])
    texts = text_errors(RowCounts(text_counts([["a fine day"], ["it rains"]], ["a fine day", "qqqq"])))
    assert texts.error == pytest.approx([0, 100])


def test_examples_are_the_worst_without_right_ones_and_the_most_doubtful():
    table = pa.table({"line": [2, 3, 4], "text": ["one", "two", "three"]})
    found = examples(table, RowErrors("wrong spans", np.array([0.0, 2.0, 1.0]), np.array([0.5, 0.1, 0.3]))).to_pylist()
    assert [(row["why"], row["text"], row["error"], row["margin"]) for row in found] == [
        ("worst", "two", 2, 0.1),
        ("worst", "three", 1, 0.3),
        ("doubtful", "two", 2, 0.1),
        ("doubtful", "three", 1, 0.3),
        ("doubtful", "one", 0, 0.5),
    ]
    only = examples(table, RowErrors("wrong spans", np.array([0.0, 2.0, 1.0])))
    assert only["why"].to_pylist() == ["worst"] * 2 and only["margin"].null_count == 2


@pytest.mark.parametrize("rows", [1, 7, 205])
def test_error_by_length_is_drawn_in_bins_of_as_many_rows(rows):
    lengths, error = np.arange(rows) + 3, np.arange(rows, dtype=float)
    (axes,) = error_by_length(lengths, RowErrors("wrong spans", error)).axes
    drawn = axes.lines[0].get_xydata()
    assert len(drawn) == min(10, max(1, rows // 10))
    assert drawn[:, 1] == pytest.approx(drawn[:, 0] - 3)
    assert axes.get_ylabel() == "mean error (wrong spans)"
