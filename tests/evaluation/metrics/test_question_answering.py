"""Answers compared as for SQuAD: what is ignored, tokens of several scripts, no answer, and metrics by hand.

Run: python -m pytest tests/evaluation/metrics/test_question_answering.py
"""

from math import isnan

import numpy as np
import pytest

from pipeline_lib.evaluation.metrics.question_answering import READING, answer_counts, normalize_answer
from pipeline_lib.evaluation.predictions import RowCounts
from pipeline_lib.evaluation.statistics.bootstrap import bootstrap

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The  Blue-Green Kettle!", ["bluegreen", "kettle"]),
        ("an  apple, a\tday", ["apple", "day"]),
        ("theatre banana", ["theatre", "banana"]),  # articles as whole words only
        ("$3.50", ["350"]),
        ("“quoted” – ‘words’…", ["quoted", "words"]),  # punctuation that ASCII lacks
        ("北京大学", ["北", "京", "大", "学"]),
        ("《长城》在 1987 年。", ["长", "城", "在", "1987", "年"]),
        ("使用Python语言", ["使", "用", "python", "语", "言"]),
        ("A股", ["a", "股"]),
        ("コーヒー・豆", ["コ", "ー", "ヒ", "ー", "豆"]),
        ("時々ｶﾌｪ", ["時", "々", "ｶ", "ﾌ", "ｪ"]),
        ("서울 대학교", ["서울", "대학교"]),  # Korean has spaces
        ("Größe über alles", ["größe", "über", "alles"]),
        ("हिन्दी भाषा।", ["हिन्दी", "भाषा"]),
        ("The", []),
        ("", []),
    ],
)
def test_tokens(text, tokens):
    assert normalize_answer(text) == tokens


def _scores(gold, guess):
    return {name: metric.function(RowCounts(answer_counts(gold, guess))) for name, metric in READING.items()}


@pytest.mark.parametrize(
    ("gold", "guess", "exact", "f1"),
    [
        (["the red kettle"], "Red kettle.", 1, 1),
        (["the red kettle"], "kettle", 0, 2 * 1 / (2 + 1)),
        (["ha ha ha"], "ha ha no", 0, 2 * 2 / (3 + 3)),  # a token counts as often as in both
        (["red kettle", "kettle"], "kettle", 1, 1),
        (["red kettle", "big old red kettle"], "old kettle", 0, 2 * 2 / (4 + 2)),  # the best answer, not the first
        (["kettle"], "", 0, 0),
        (["kettle"], "the", 0, 0),
        ([], "", 1, 1),
        ([], "kettle", 0, 0),
        ([""], "", 1, 1),
        (["the", "kettle"], "", 0, 0),  # what is nothing but an article is not an answer to match
        (["北京大学"], "北京 大学", 0, 1),  # CMRC 2018's script keeps spaces for the exact match
        (["北京大学"], "北京", 0, 2 * 2 / (4 + 2)),
        (["《长城》"], "长城", 1, 1),
    ],
)
def test_one_question(gold, guess, exact, f1):
    counts = answer_counts([gold], [guess])
    assert counts["exact"].tolist() == [exact] and counts["f1"].tolist() == [pytest.approx(f1)]
    assert counts["answerable"].tolist() == [bool(gold)]


def test_metrics_by_hand():
    gold = [["red kettle"], ["a lamp"], [], [], []]
    value = _scores(gold, ["kettle", "lamp", "", "lamp", ""])
    assert value["exact_match"] == pytest.approx((0 + 1 + 1 + 0 + 1) / 5)
    assert value["f1"] == pytest.approx((2 / 3 + 1 + 1 + 0 + 1) / 5)
    assert value["answerable_f1"] == pytest.approx((2 / 3 + 1) / 2)
    assert value["no_answer_accuracy"] == pytest.approx(2 / 3)


def test_only_answers_only_none_and_no_rows():
    assert isnan(_scores([["lamp"]], ["lamp"])["no_answer_accuracy"])
    assert isnan(_scores([[]], [""])["answerable_f1"]) and _scores([[]], [""])["no_answer_accuracy"] == 1
    assert all(map(isnan, _scores([], []).values()))


def test_every_metric_needs_only_sums():
    gold, guess = [["lamp"], ["red kettle"], []], ["lamp", "kettle", "x"]
    twice = RowCounts(answer_counts(gold, guess)).take(np.array([1, 1, 2]))
    assert {name: metric.function(twice) for name, metric in READING.items()} == _scores(
        [gold[1], gold[1], gold[2]], [guess[1], guess[1], guess[2]]
    )
    scores = bootstrap(RowCounts(answer_counts(gold * 20, guess * 20)), READING, resamples=200)
    assert all(score.low <= score.value <= score.high for score in scores.values())


def test_what_does_not_fit():
    with pytest.raises(ValueError):
        answer_counts([["lamp"]], [])
