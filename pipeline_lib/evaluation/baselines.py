"""Simple baselines for single-label classification: the scores that a fine-tuned model has to beat.

A baseline is a function (train_texts, train_gold [m] class index, test_texts, classes K) -> probabilities [n, K].
All are deterministic. A class without training rows gets probability 0.
"""

from collections.abc import Callable, Sequence

import numpy as np

Baseline = Callable[[Sequence[str], np.ndarray, Sequence[str], int], np.ndarray]


def majority(train_texts: Sequence[str], train_gold: np.ndarray, test_texts: Sequence[str], classes: int) -> np.ndarray:
    """Predict the class frequencies of the training data for every row, so that the most frequent class always wins."""
    counts = np.bincount(train_gold, minlength=classes)
    return np.tile(counts / counts.sum(), (len(test_texts), 1))


def bag_of_words(
    train_texts: Sequence[str], train_gold: np.ndarray, test_texts: Sequence[str], classes: int
) -> np.ndarray:
    """Logistic regression on tf-idf weighted uni- and bigrams.

    Bigrams as in Wang & Manning (2012), "Baselines and Bigrams"; logarithmic term counts as in Manning,
    Raghavan & Schütze (2008), "Introduction to Information Retrieval", section 6.4.1. Falls back to `majority` if
    the training data has a single class or no text.
    """
    if len(present := np.unique(train_gold)) < 2 or not any(text.strip() for text in train_texts):
        return majority(train_texts, train_gold, test_texts, classes)
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    # tf-idf rows have unit length: the default penalty (C=1) would keep the weights too small for short texts
    model = make_pipeline(_vectorizer(train_texts), LogisticRegression(C=10, tol=1e-3, max_iter=300))
    probabilities = np.zeros((len(test_texts), classes))
    probabilities[:, present] = model.fit(train_texts, train_gold).predict_proba(test_texts)
    return probabilities


def _vectorizer(texts: Sequence[str]):
    """Word uni- and bigrams; for scripts without spaces, character n-grams of up to three."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    if _has_few_spaces(texts):
        split = {"analyzer": "char_wb", "ngram_range": (1, 3)}
    else:  # keep one-letter words and symbols: "I", "5", "?" and emoji carry intent and sentiment
        split = {"token_pattern": r"\w+|[^\w\s]", "ngram_range": (1, 2)}
    # only the most frequent n-grams, because the weights take K floats for each
    return TfidfVectorizer(**split, sublinear_tf=True, max_features=100_000, dtype=np.float32)


def _has_few_spaces(texts: Sequence[str]) -> bool:
    """Whether fewer than 1 in 12 characters is white space; English has 1 in 6, Finnish 1 in 8, Chinese few."""
    spaces = sum(len(text.split()) - 1 for text in texts if text.strip())
    characters = sum(len(text) for text in texts)
    return 12 * spaces < characters


BASELINES: dict[str, Baseline] = {"majority": majority, "bag_of_words": bag_of_words}
