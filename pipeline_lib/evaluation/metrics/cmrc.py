"""Exact match and F1 of Chinese answers, as CMRC 2018's own script takes them.

Cui et al. (2019), "A Span-Extraction Dataset for Chinese Machine Reading Comprehension", section 3, and the script
cmrc2018_evaluate.py. A Han character is a token, and what stands between them is cut into words as by NLTK. Unlike
SQuAD's, this F1 counts the longest run of tokens that both answers share, not all shared tokens.
"""

from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import cache
from typing import Any

PUNCTUATION = frozenset([*"-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』", "……"])
"""What the script takes out. Its "……" is two characters, which it compares with one: an ellipsis stays."""


def compared(answers: Sequence[str], guess: str) -> tuple[bool, float]:
    """Whether a guess is one of the right answers, and its best F1 in [0, 1]."""
    exact = any(_bare(answer) == _bare(guess) for answer in answers)
    tokens = segments(guess)
    return exact, max(_f1(segments(answer), tokens) for answer in answers)


def segments(text: str) -> list[str]:
    """The tokens of an answer, in order."""
    found: list[str] = []
    between = ""
    for character in text.lower().strip():
        if character in PUNCTUATION:
            continue
        if "\u4e00" <= character <= "\u9fa5":
            found += [*_words(between), character]
            between = ""
        else:
            between += character
    return found + _words(between)


def _words(text: str) -> list[str]:
    return list(_tokenizer().tokenize(text)) if text else []


@cache
def _tokenizer() -> Any:
    from nltk.tokenize import NLTKWordTokenizer

    return NLTKWordTokenizer()


def _bare(text: str) -> str:
    return "".join(character for character in text.lower().strip() if character not in PUNCTUATION)


def _f1(gold: Sequence[str], guess: Sequence[str]) -> float:
    """Balance of precision and recall of the longest common run."""
    shared = SequenceMatcher(None, gold, guess, autojunk=False).find_longest_match().size
    return 2 * shared / (len(gold) + len(guess)) if shared else 0.0
