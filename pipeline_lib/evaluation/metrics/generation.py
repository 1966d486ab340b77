"""Metrics of text that a model writes, beside one or several references a row, in any language.

BLEU and chrF are those of the whole corpus by sacrebleu, Post (2018), "A Call for Clarity in Reporting BLEU Scores":
their counts add up over rows, so that the bootstrap need not read the texts again. ROUGE is a mean over rows.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from itertools import zip_longest
from math import nan
from typing import Any

import numpy as np

from pipeline_lib.evaluation.metrics.question_answering import HAN, KANA, spaceless
from pipeline_lib.evaluation.predictions import Metric
from pipeline_lib.evaluation.totals import Totals

ROUGE = ("rouge1", "rouge2", "rougeL")


def text_counts(references: Sequence[Sequence[str]], texts: Sequence[str]) -> dict[str, np.ndarray]:
    """What WRITTEN needs of n texts, each with one or more references.

    - `bleu` int64 [n, 10]: tokens of the text and of the reference nearest in length, n-grams of order 1 to 4 that
      are right, and all of them;
    - `chrf` int64 [n, 18]: character n-grams of order 1 to 6, each in the text, in its best reference, in both;
    - `rouge1`, `rouge2`, `rougeL`, `exact` float64 [n]: the best over a row's references, in [0, 1].

    Raises ValueError where references and texts differ in length, and for a row without a reference.
    """
    from sacrebleu.metrics import BLEU, CHRF

    if len(references) != len(texts) or not all(references):
        raise ValueError("every text needs a reference")
    bleu = BLEU(tokenize=bleu_tokenizer(references), force=True)  # no warning of texts that look like tokens
    rows = zip(references, texts, strict=True)
    exact = [text.strip() in [reference.strip() for reference in right] for right, text in rows]
    return {
        "bleu": _statistics(bleu, references, texts).reshape(-1, 10),
        "chrf": _statistics(CHRF(), references, texts).reshape(-1, 18),
        **_rouge(references, texts),
        "exact": np.array(exact, float),
    }


def bleu_tokenizer(references: Sequence[Sequence[str]]) -> str:
    """sacrebleu's tokenizer for these references together: "char" for Japanese, "zh" for Chinese, else "13a".

    Japanese is what has kana, Chinese what has Han characters: a tenth of all letters, since Latin words stand in both
    and are longer, and a name in a foreign script must not decide.
    """
    letters = Counter(character for row in references for text in row for character in text if character.isalpha())
    names = {character: unicodedata.name(character, "") for character in letters}
    han, kana = (sum(letters[each] for each in letters if names[each].startswith(script)) for script in (HAN, KANA))
    if kana > letters.total() / 10:
        return "char"
    return "zh" if han > letters.total() / 10 else "13a"


def _statistics(metric: Any, references: Sequence[Sequence[str]], texts: Sequence[str]) -> np.ndarray:
    """sacrebleu's counts by row; it has no public way to them."""
    streams = list(zip_longest(*references))  # the first reference of all rows, the second: None where there is none
    return np.array(metric._extract_corpus_statistics(texts, streams) if streams else [], np.int64)


@cache
def _shown(character: str) -> str:
    """Letters, their marks and digits as they are; what is between words as a space."""
    if spaceless(character):
        return f" {character} "
    return character if unicodedata.category(character)[0] in "LMN" else " "


class Words:
    """Words in lower case, and Han characters and kana one by one."""

    def tokenize(self, text: str) -> list[str]:
        """The words of a text, in order."""
        return "".join(map(_shown, text.lower())).split()


def _mostly_latin(references: Sequence[Sequence[str]]) -> bool:
    """Whether most letters are a to z: then words are those of rouge_score, which knows no others."""
    letters = [letter for row in references for text in row for letter in text.lower() if letter.isalpha()]
    return sum("a" <= letter <= "z" for letter in letters) >= len(letters) / 2


def _rouge(references: Sequence[Sequence[str]], texts: Sequence[str]) -> dict[str, np.ndarray]:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(ROUGE, tokenizer=None if _mostly_latin(references) else Words())
    scores = [scorer.score_multi(right, text) for right, text in zip(references, texts, strict=True)]
    return {name: np.array([score[name].fmeasure for score in scores], float) for name in ROUGE}


class _Count(float):
    """A count of weighted rows; sacrebleu writes lengths as integers into a text that is not used here."""

    def __format__(self, code: str) -> str:
        return format(round(self), code) if code.endswith("d") else super().__format__(code)


def bleu(totals: Totals) -> Any:
    """Papineni et al. (2002), "BLEU", section 2.3, from 0 to 100; smoothed by sacrebleu's default, "exp"."""
    from sacrebleu.metrics import BLEU

    def score(counts: np.ndarray) -> float:
        tokens, wanted, *ngrams = map(_Count, counts.tolist())
        return BLEU.compute_bleu(ngrams[:4], ngrams[4:], tokens, wanted, smooth_method="exp").score

    return _of_counts(score, totals, "bleu")


def chrf(totals: Totals) -> Any:
    """Popović (2015), "chrF: character n-gram F-score", equation 1 with beta 2 and orders 1 to 6, from 0 to 100."""
    from sacrebleu.metrics import CHRF

    metric = CHRF()
    return _of_counts(lambda counts: metric._compute_score_from_stats(counts.tolist()).score, totals, "chrf")


def _of_counts(score: Callable[[np.ndarray], float], totals: Totals, name: str) -> Any:
    """The score of the corpus's counts [k], or of each resample's [resamples, k]; nan without rows."""
    if not np.all(totals.total("rows")):
        return nan
    return np.apply_along_axis(score, -1, totals.total(name))[()]


def _mean(name: str, meaning: str) -> Metric:
    return Metric(lambda totals: totals.mean(name), True, meaning, of_text=True)


WRITTEN: dict[str, Metric] = {
    "bleu": Metric(bleu, True, "runs of words shared with the reference, from 0 to 100", of_text=True),
    "chrf": Metric(chrf, True, "runs of characters shared with the reference, from 0 to 100", of_text=True),
    # Lin (2004), "ROUGE: A Package for Automatic Evaluation of Summaries", sections 2 and 3.1, the F-measure
    "rouge1": _mean("rouge1", "words shared with the reference"),
    "rouge2": _mean("rouge2", "pairs of words shared with the reference"),
    "rougeL": _mean("rougeL", "words shared with the reference in the same order"),
    "exact_match": _mean("exact", "share of texts that are exactly the reference"),
}
