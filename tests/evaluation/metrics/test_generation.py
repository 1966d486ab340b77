"""Metrics of written text: BLEU and chrF against sacrebleu's own, ROUGE against rouge_score's and by hand.

Run: python -m pytest tests/evaluation/metrics/test_generation.py
"""

import logging
from itertools import zip_longest
from math import isnan
from time import process_time

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from pipeline_lib.evaluation.metrics.generation import ROUGE, WRITTEN, Words, bleu_tokenizer, text_counts
from pipeline_lib.evaluation.predictions import RowCounts
from pipeline_lib.evaluation.statistics.bootstrap import bootstrap

pytestmark = pytest.mark.filterwarnings("error")

ENGLISH = (
    [
        ["The kettle is on the stove.", "A kettle stands on the stove, whistling."],
        ["She sold 12 lamps on Monday."],
        ["Nobody knows where the key is.", "No one knows where the key is.", "Where the key is, nobody knows."],
        ["It rained all day long."],
    ],
    ["The kettle stands on the stove.", "She sold twelve lamps on Monday.", "No one knows where the key is.", ""],
)
CHINESE = (
    [["水壶在炉子上。", "炉子上有一个水壶。"], ["她在星期一卖了12盏灯。"], ["没有人知道钥匙在哪里。"]],
    ["水壶在炉子上面。", "她星期一卖了12盏灯。", "没人知道钥匙在哪儿。"],
)
JAPANESE = (
    [["やかんはコンロの上にあります。"], ["彼女は月曜日にランプを売りました。"]],
    ["やかんがコンロの上にある。", "彼女は火曜日にランプを売りました。"],
)
WORLDS = {"13a": ENGLISH, "zh": CHINESE, "char": JAPANESE}


def _value(references, texts):
    return {name: metric.function(RowCounts(text_counts(references, texts))) for name, metric in WRITTEN.items()}


@pytest.mark.parametrize("tokenizer", WORLDS)
def test_as_in_sacrebleu(tokenizer):
    references, texts = WORLDS[tokenizer]
    streams = list(zip_longest(*references))
    value = _value(references, texts)
    assert value["bleu"] == sacrebleu.corpus_bleu(texts, streams, tokenize=tokenizer).score > 0
    assert value["chrf"] == sacrebleu.corpus_chrf(texts, streams).score > 0


@pytest.mark.parametrize("tokenizer", WORLDS)
def test_a_resample_is_as_its_texts_would_be(tokenizer):
    references, texts = WORLDS[tokenizer]
    counts, random = RowCounts(text_counts(references, texts)), np.random.default_rng(0)
    for _ in range(20):
        rows = random.integers(0, len(texts), size=len(texts))
        drawn = [texts[row] for row in rows]
        streams = list(zip_longest(*(references[row] for row in rows)))
        sample = counts.take(rows)
        assert WRITTEN["bleu"].function(sample) == sacrebleu.corpus_bleu(drawn, streams, tokenize=tokenizer).score
        assert WRITTEN["chrf"].function(sample) == sacrebleu.corpus_chrf(drawn, streams).score


def test_bleu_by_hand():
    counts = text_counts([["one two three four five six"]], ["one two three four five"])["bleu"]
    assert counts.tolist() == [[5, 6, 5, 4, 3, 2, 5, 4, 3, 2]]
    assert WRITTEN["bleu"].function(RowCounts({"bleu": counts})) == pytest.approx(100 * np.exp(1 - 6 / 5))


def test_chrf_by_hand():
    references, texts = [["ab"]], ["ac"]  # letters: 1 of 2 and 1 of 2; pairs: 0 of 1; F of the means 1/4 and 1/4
    assert text_counts(references, texts)["chrf"].tolist() == [[2, 2, 1, 1, 1, 0] + [0] * 12]
    assert _value(references, texts)["chrf"] == pytest.approx(25)


def test_rouge_by_hand():
    value = _value([["the lamp is on the table"]], ["the table is the lamp"])
    assert value["rouge1"] == pytest.approx(2 * 5 / (6 + 5))
    assert value["rouge2"] == pytest.approx(2 * 2 / (5 + 4))  # the lamp, the table
    assert value["rougeL"] == pytest.approx(2 * 3 / (6 + 5))  # the is the


def test_rouge_of_chinese_by_hand():
    value = _value([["水壶在炉子上"]], ["水壶在上"])
    assert value["rouge1"] == value["rougeL"] == pytest.approx(2 * 4 / (6 + 4))
    assert value["rouge2"] == pytest.approx(2 * 2 / (5 + 3))


def test_rouge_of_plain_english_as_in_rouge_score():
    random = np.random.default_rng(0)
    scorer = RougeScorer(ROUGE)
    for _ in range(50):
        words = [" ".join(random.choice(["Red", "lamp", "on_top,", "_and_", "café", "12"], size=8)) for _ in range(3)]
        counts = text_counts([words[:2]], words[2:])
        best = scorer.score_multi(words[:2], words[2])
        assert {name: counts[name][0] for name in ROUGE} == {name: best[name].fmeasure for name in ROUGE}


def test_the_root_logger_gets_no_handler_with_which_every_line_would_appear_twice(monkeypatch):
    monkeypatch.setattr(logging.root, "handlers", [])
    text_counts([["a red lamp"]], ["a red lamp"])
    assert not logging.root.handlers


def test_the_best_reference_counts():
    value = _value([["something else", "a red lamp"], ["a red lamp"]], ["a red lamp", " a red lamp\n"])
    assert value == pytest.approx(dict.fromkeys(WRITTEN, 1) | {"bleu": value["bleu"], "chrf": 100})
    assert _value([["A red lamp"]], ["a red lamp"])["exact_match"] == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't stop, snake_case 3.5!", ["don", "t", "stop", "snake", "case", "3", "5"]),
        ("Größe Ćwiczenie слово", ["größe", "ćwiczenie", "слово"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),  # vowel signs are no letters, but parts of a word
        ("用Python写の本。", ["用", "python", "写", "の", "本"]),
        ("한국어 단어", ["한국어", "단어"]),
        ("…", []),
    ],
)
def test_words(text, words):
    assert Words().tokenize(text) == words


@pytest.mark.parametrize(
    ("references", "tokenizer"),
    [
        ([], "13a"),
        ([[""], ["123 !"]], "13a"),
        ([["Der Kessel steht auf dem Herd."]], "13a"),
        ([["주전자가 난로 위에 있다."]], "13a"),
        ([["The sign at the harbour of this small town read 北京, in large golden letters."]], "13a"),  # a name
        ([["用 PyTorch 训练 Transformer 模型的方法"]], "zh"),
        ([["他爱喝可口可乐和优の良品的果汁"], ["水壶在炉子上"]], "zh"),
        ([["東京タワーの高さ"]], "char"),
        ([["水壶在炉子上"], ["やかんはコンロの上"]], "char"),
    ],
)
def test_tokenizer_of_bleu(references, tokenizer):
    assert bleu_tokenizer(references) == tokenizer


def test_empty_texts_and_no_rows():
    assert set(_value([["a lamp"], ["a table"]], ["", " "]).values()) == {0}
    assert set(_value([[""]], ["a lamp"]).values()) == {0}
    assert _value([[""]], [""]) == {**dict.fromkeys(WRITTEN, 0), "exact_match": 1}
    assert all(map(isnan, _value([], []).values()))


@pytest.mark.parametrize(("references", "texts"), [([["a"]], []), ([["a"], []], ["a", "b"])])
def test_what_does_not_fit(references, texts):
    with pytest.raises(ValueError, match="every text needs a reference"):
        text_counts(references, texts)


def test_tokens_split_at_full_stops_give_no_warning(caplog):
    text_counts([["a lamp ."]] * 200, ["a lamp ."] * 200)
    assert not caplog.records


def test_the_bootstrap_does_not_read_the_texts_again():
    references, texts = ENGLISH
    sums = RowCounts(text_counts(references * 750, texts * 750))
    begin = process_time()
    scores = bootstrap(sums, WRITTEN)
    assert process_time() - begin < 30  # under a second; reading the texts again would take minutes
    assert all(score.low <= score.value <= score.high for score in scores.values())


def test_all_are_of_text_and_higher_is_better():
    assert all(metric.of_text and metric.higher_is_better for metric in WRITTEN.values())
