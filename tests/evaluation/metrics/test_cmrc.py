"""Chinese answers, as CMRC 2018's own script compares them. `pytest tests/evaluation/metrics/test_cmrc.py`."""

import pytest

from pipeline_lib.evaluation.metrics.cmrc import score_answer, segments
from pipeline_lib.evaluation.metrics.question_answering import answer_counts


def test_han_characters_and_words_between_are_tokens():
    assert segments("《红楼梦》 Windows XP，1921年") == ["红", "楼", "梦", "windows", "xp1921", "年"]  # so the script


@pytest.mark.parametrize(
    ("answers", "guess", "exact", "f1"),
    [
        (["北京大学"], "北京大学", True, 1.0),
        (["北京大学"], "《北京大学》。", True, 1.0),
        (["北京大学"], "大学", False, 2 * 2 / 6),
        (["北京大学"], "北方大学", False, 2 * 2 / 8),  # shared are three characters, in a row two
        (["上海", "北京大学"], "北京", False, 2 * 2 / 6),
        (["上海"], "北京", False, 0.0),
    ],
)
def test_by_hand(answers, guess, exact, f1):
    assert score_answer(answers, guess) == (exact, pytest.approx(f1))


def test_only_chinese_is_compared_so():
    assert answer_counts([["北京大学"]], ["北方大学"])["f1"] == pytest.approx(0.5)
    assert answer_counts([["the red house"]], ["red the house"])["f1"] == 1.0
    assert answer_counts([["北京大学"], []], ["北京大学", ""])["exact"].tolist() == [1.0, 1.0]
