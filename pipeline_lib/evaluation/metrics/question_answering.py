"""Exact match and F1 of extractive question answering as in SQuAD, for any language.

Rajpurkar et al. (2016), "SQuAD: 100,000+ Questions for Machine Comprehension of Text", section 6.1; for questions
without an answer Rajpurkar, Jia & Liang (2018), "Know What You Don't Know", section 5.2. For other languages as in
Lewis et al. (2020), "MLQA", section 4: Unicode punctuation is ignored like ASCII punctuation, and in scripts without
spaces each character is a token. Chinese answers are compared as in CMRC (`cmrc.py`).
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import chain
from math import nan
from typing import Any

import numpy as np

from pipeline_lib.evaluation.metrics import cmrc
from pipeline_lib.evaluation.predictions import Metric
from pipeline_lib.evaluation.totals import Totals, ratio

ARTICLES = re.compile(r"\b(a|an|the)\b")
HAN = ("CJK UNIFIED", "CJK COMPATIBILITY IDEOGRAPH", "IDEOGRAPHIC")
KANA = ("HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA")
"""Prefixes of the Unicode names of these characters."""


@cache
def is_spaceless(character: str) -> bool:
    """Whether a character is Han or kana, which are written without spaces between words."""
    return character.isalnum() and unicodedata.name(character, "").startswith(HAN + KANA)


@cache
def _punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character).startswith("P")


def normalize_answer(text: str) -> list[str]:
    """Normalize an answer to tokens, without case, punctuation and English articles."""
    text = "".join(character for character in text.lower() if not _punctuation(character))
    # before Han characters are split off: else the A of "A股" would be removed as an article
    text = ARTICLES.sub(" ", text)
    return "".join(f" {character} " if is_spaceless(character) else character for character in text).split()


def token_f1(gold: Sequence[str], guess: Sequence[str]) -> float:
    """Return the F1 of two bags of tokens, in [0, 1]; two empty bags have 1, and an empty and another one 0."""
    if not gold or not guess:
        return float(gold == guess)
    shared = (Counter(gold) & Counter(guess)).total()
    return 2 * shared / (len(gold) + len(guess))


def answer_counts(gold: Sequence[Sequence[str]], guess: Sequence[str]) -> dict[str, np.ndarray]:
    """Compute the row counts for the metrics in READING, float64 [n] each for n questions.

    Args:
        gold: The right answers of each question; empty if it has none, in which case the right guess is "".
        guess: The predicted answers.

    Returns:
        - `exact`, `f1`: the best over a question's gold answers, in [0, 1];
        - `answerable`, `unanswerable`: 1 if the question has an answer or has none, else 0;
        - `answerable_f1`, `no_answer_right`: `f1` if the question has an answer, `exact` if it has none, else 0.

    Raises:
        ValueError: If gold and guess differ in length.
    """
    chinese = _is_chinese(gold)
    rows = [
        cmrc.score_answer(answers, text) if chinese and answers else _score_answer(answers, text)
        for answers, text in zip(gold, guess, strict=True)
    ]
    exact, f1 = np.array(rows, float).reshape(-1, 2).T
    answerable = np.array([len(answers) > 0 for answers in gold], float)
    return {
        **{"exact": exact, "f1": f1, "answerable": answerable, "unanswerable": 1 - answerable},
        **{"answerable_f1": f1 * answerable, "no_answer_right": exact * (1 - answerable)},
    }


def _is_chinese(gold: Sequence[Sequence[str]]) -> bool:
    """Whether most letters of the answers are Han characters and none is kana."""
    texts = chain.from_iterable(gold)
    names = [unicodedata.name(letter, "") for text in texts for letter in text if letter.isalpha()]
    if any(name.startswith(KANA) for name in names):  # Japanese text has Han characters too
        return False
    return sum(name.startswith(HAN) for name in names) > len(names) / 2


def _score_answer(answers: Sequence[str], guess: str) -> tuple[bool, float]:
    """Whether a guess is exactly right, and its best F1."""
    # as in SQuAD's script, gold answers that consist of articles and punctuation only are left out
    gold = [tokens for tokens in map(normalize_answer, answers) if tokens] or [[]]
    tokens = normalize_answer(guess)
    return tokens in gold, max(token_f1(answer, tokens) for answer in gold)


def answerable_f1(totals: Totals) -> Any:
    """Mean F1, in [0, 1], of the questions that have an answer; nan without any."""
    return ratio(totals.total("answerable_f1"), totals.total("answerable"), nan)


def no_answer_accuracy(totals: Totals) -> Any:
    """Share, in [0, 1], of the unanswerable questions that got no answer; nan if there are none."""
    return ratio(totals.total("no_answer_right"), totals.total("unanswerable"), nan)


READING: dict[str, Metric] = {
    "exact_match": Metric(
        lambda sums: sums.mean("exact"), True, "share of questions whose answer matches exactly", bounds=(0, 1)
    ),
    "f1": Metric(
        lambda sums: sums.mean("f1"), True, "word overlap of the predicted and the right answer", bounds=(0, 1)
    ),
    "answerable_f1": Metric(answerable_f1, True, "word overlap, over questions that have an answer", bounds=(0, 1)),
    "no_answer_accuracy": Metric(
        no_answer_accuracy, True, "share of unanswerable questions that got no answer", bounds=(0, 1)
    ),
}
