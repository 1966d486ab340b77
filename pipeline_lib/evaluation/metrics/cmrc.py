"""Exact match and F1 of Chinese answers, as computed by the official script of CMRC 2018.

Cui et al. (2019), "A Span-Extraction Dataset for Chinese Machine Reading Comprehension", section 3, and the script
cmrc2018_evaluate.py. Each Han character is a token, and NLTK splits the text between them into words. Unlike SQuAD's,
this F1 counts the longest common run of tokens, not all shared tokens.
"""

from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import cache
from typing import Any

PUNCTUATION = frozenset([*"-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』", "……"])
"""What the script removes. Its "……" has two characters and is compared with single ones, so an ellipsis stays."""


def score_answer(answers: Sequence[str], guess: str) -> tuple[bool, float]:
    """Whether a guess equals one of the right answers, and its best F1 in [0, 1]."""
    exact = any(_strip_punctuation(answer) == _strip_punctuation(guess) for answer in answers)
    tokens = segments(guess)
    return exact, max(_f1(segments(answer), tokens) for answer in answers)


def segments(text: str) -> list[str]:
    """The tokens of an answer, in order."""
    tokens: list[str] = []
    between = ""  # the text since the last Han character
    for character in text.lower().strip():
        if character in PUNCTUATION:
            continue
        if "\u4e00" <= character <= "\u9fa5":
            tokens += [*_words(between), character]
            between = ""
        else:
            between += character
    return tokens + _words(between)


def _words(text: str) -> list[str]:
    return list(_tokenizer().tokenize(text)) if text else []


@cache
def _tokenizer() -> Any:
    from nltk.tokenize import NLTKWordTokenizer

    return NLTKWordTokenizer()


def _strip_punctuation(text: str) -> str:
    return "".join(character for character in text.lower().strip() if character not in PUNCTUATION)


def _f1(gold: Sequence[str], guess: Sequence[str]) -> float:
    """F1 of the longest common run of tokens."""
    shared = SequenceMatcher(None, gold, guess, autojunk=False).find_longest_match().size
    return 2 * shared / (len(gold) + len(guess)) if shared else 0.0
