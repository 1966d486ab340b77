"""Metrics of generated text against one or more references per row, in any language.

BLEU and chrF are corpus scores by sacrebleu, Post (2018), "A Call for Clarity in Reporting BLEU Scores": their counts
add up over rows, so that the bootstrap need not read the texts again. ROUGE is a mean over rows.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from itertools import zip_longest
from math import nan
from typing import Any

import numpy as np

from pipeline_lib.evaluation.metrics.question_answering import HAN, KANA, is_spaceless
from pipeline_lib.evaluation.predictions import Metric
from pipeline_lib.evaluation.totals import Totals

ROUGE = ("rouge1", "rouge2", "rougeL")


def text_counts(references: Sequence[Sequence[str]], texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Compute the row counts for the metrics in WRITTEN, for n texts with one or more references each.

    Returns:
        - `bleu` int64 [n, 10]: tokens of the text and of the reference closest in length, matching n-grams of order 1
          to 4, all n-grams of order 1 to 4;
        - `chrf` int64 [n, 18]: for each order 1 to 6, character n-grams in the text, in its best reference, in both;
        - `rouge1`, `rouge2`, `rougeL`, `exact` float64 [n]: the best over a row's references, in [0, 1].

    Raises:
        ValueError: If references and texts differ in length, or a row has no reference.
    """
    from sacrebleu.metrics import BLEU, CHRF

    if len(references) != len(texts) or not all(references):
        raise ValueError("every text needs a reference")
    bleu = BLEU(tokenize=bleu_tokenizer(references), force=True)  # no warning about texts that look tokenized
    rows = zip(references, texts, strict=True)
    exact = [text.strip() in [reference.strip() for reference in right] for right, text in rows]
    return {
        "bleu": _statistics(bleu, references, texts).reshape(-1, 10),
        "chrf": _statistics(CHRF(), references, texts).reshape(-1, 18),
        **_rouge(references, texts),
        "exact": np.array(exact, float),
    }


def bleu_tokenizer(references: Sequence[Sequence[str]]) -> str:
    """Return the sacrebleu tokenizer for these references: "char" for Japanese, "zh" for Chinese, otherwise "13a".

    Text counts as Japanese if more than a tenth of its letters are kana, as Chinese if more than a tenth are Han
    characters. The threshold is low because both contain Latin words, which have more letters; it is not 0 because a
    single name in another script must not decide.
    """
    letters = Counter(character for row in references for text in row for character in text if character.isalpha())
    names = {character: unicodedata.name(character, "") for character in letters}
    han = sum(count for letter, count in letters.items() if names[letter].startswith(HAN))
    kana = sum(count for letter, count in letters.items() if names[letter].startswith(KANA))
    if kana > letters.total() / 10:
        return "char"
    return "zh" if han > letters.total() / 10 else "13a"


def _statistics(metric: Any, references: Sequence[Sequence[str]], texts: Sequence[str]) -> np.ndarray:
    """sacrebleu's counts by row. It has no public function for them, so pyproject.toml pins its minor version."""
    streams = list(zip_longest(*references))  # one list for the first references of all rows, one for the second, ...
    return np.array(metric._extract_corpus_statistics(texts, streams) if streams else [], np.int64)


@cache
def _replace_punctuation(character: str) -> str:
    """Replace everything except letters, combining marks and digits by a space."""
    if is_spaceless(character):
        return f" {character} "
    return character if unicodedata.category(character)[0] in "LMN" else " "


class Words:
    """A tokenizer for ROUGE: lower-case words, and single Han characters and kana."""

    def tokenize(self, text: str) -> list[str]:
        """The words of a text, in order."""
        return "".join(map(_replace_punctuation, text.lower())).split()


def _mostly_latin(references: Sequence[Sequence[str]]) -> bool:
    """Whether most letters are a to z, so that the tokenizer of rouge_score, which drops all others, can be used."""
    letters = [letter for row in references for text in row for letter in text.lower() if letter.isalpha()]
    return sum("a" <= letter <= "z" for letter in letters) >= len(letters) / 2


def _rouge(references: Sequence[Sequence[str]], texts: Sequence[str]) -> dict[str, np.ndarray]:
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.tokenizers import DefaultTokenizer

    # Without a tokenizer the scorer logs that it has none. That gives the root logger a handler, and every later line
    # of the log would appear twice.
    tokenizer = DefaultTokenizer(use_stemmer=False) if _mostly_latin(references) else Words()
    scorer = RougeScorer(ROUGE, tokenizer=tokenizer)
    scores = [scorer.score_multi(right, text) for right, text in zip(references, texts, strict=True)]
    return {name: np.array([score[name].fmeasure for score in scores], float) for name in ROUGE}


class _Count(float):
    """A count of weighted rows; sacrebleu writes lengths as integers into a text that is not used here."""

    def __format__(self, code: str) -> str:
        return format(round(self), code) if code.endswith("d") else super().__format__(code)


def bleu(totals: Totals) -> Any:
    """BLEU from 0 to 100, Papineni et al. (2002), section 2.3, with sacrebleu's default smoothing, "exp"."""
    from sacrebleu.metrics import BLEU

    def score(counts: np.ndarray) -> float:
        weighted: list[Any] = [_Count(count) for count in counts.tolist()]
        tokens, reference_tokens, *ngrams = weighted
        return BLEU.compute_bleu(ngrams[:4], ngrams[4:], tokens, reference_tokens, smooth_method="exp").score

    return _corpus_score(score, totals, "bleu")


def chrf(totals: Totals) -> Any:
    """chrF from 0 to 100, Popović (2015), "chrF: character n-gram F-score", equation 1 with beta 2, orders 1 to 6."""
    from sacrebleu.metrics import CHRF

    metric = CHRF()  # for the score of given counts, it has a private method only
    return _corpus_score(lambda counts: metric._compute_score_from_stats(counts.tolist()).score, totals, "chrf")


def _corpus_score(score: Callable[[np.ndarray], float], totals: Totals, name: str) -> Any:
    """The score from the counts of a corpus [k], or of each resample [resamples, k]; nan without rows."""
    if not np.all(totals.total("rows")):
        return nan
    return np.apply_along_axis(score, -1, totals.total(name))[()]


def _mean(name: str, meaning: str) -> Metric:
    return Metric(lambda totals: totals.mean(name), True, meaning, (0, 1), of_text=True)


WRITTEN: dict[str, Metric] = {
    "bleu": Metric(bleu, True, "word n-grams shared with the reference, from 0 to 100", (0, 100), of_text=True),
    "chrf": Metric(chrf, True, "character n-grams shared with the reference, from 0 to 100", (0, 100), of_text=True),
    # Lin (2004), "ROUGE: A Package for Automatic Evaluation of Summaries", sections 2 and 3.1, the F-measure
    "rouge1": _mean("rouge1", "words shared with the reference"),
    "rouge2": _mean("rouge2", "pairs of words shared with the reference"),
    "rougeL": _mean("rougeL", "words shared with the reference in the same order"),
    "exact_match": _mean("exact", "share of texts that equal a reference"),
}
