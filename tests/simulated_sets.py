"""Test sets of which the truth is known: what the simulations of coverage and of false differences are made of.

Each function draws one test set and returns its outcome; the truth is the metric of a set so large that chance is gone.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy import stats

from pipeline_lib.evaluation.metrics.preference import pair_counts, single_counts
from pipeline_lib.evaluation.predictions import Metric, Predictions, RowCounts
from pipeline_lib.evaluation.statistics.bootstrap import bootstrap

Population = Callable[[np.random.Generator, int], Predictions | RowCounts]
LARGE = 200_000
ROUGE_POWERS = {"rouge1": 0.7, "rouge2": 1.5, "rougeL": 1.0}
"""How much harder than a word the units of each ROUGE are to match."""


def classified(shares: np.ndarray | list[float], right: np.ndarray | list[float], sharpness: float) -> Population:
    """One label a row: classes by their shares, each class's rows right as often as `right` says.

    The confidence is calibrated at a sharpness of 1, too high above it.
    """
    prior, found = np.array(shares), np.array(right)

    def draw(random: np.random.Generator, rows: int) -> Predictions:
        gold = random.choice(len(prior), rows, p=prior)
        other = random.choice(len(prior), rows, p=prior)
        other = np.where(other == gold, (gold + 1) % len(prior), other)
        guess = np.where(random.random(rows) < found[gold], gold, other)
        # P(right | guess), by Bayes from the population itself, and a margin of doubt that changes nothing on average
        sure = _right_given_guess(prior, found)[guess]
        chances = np.full((rows, len(prior)), 0.0)
        sure = np.clip(1 - (1 - sure) / sharpness, 0.02, 0.995)
        chances += ((1 - sure) / (len(prior) - 1))[:, None]
        chances[np.arange(rows), guess] = sure
        return Predictions(gold, guess, chances)

    return draw


def _right_given_guess(prior: np.ndarray, found: np.ndarray) -> np.ndarray:
    classes = len(prior)
    confusion = np.diag(prior * found)
    for gold in range(classes):
        wrong = prior.copy()
        wrong[(gold + 1) % classes] += wrong[gold]
        wrong[gold] = 0
        confusion[gold] += prior[gold] * (1 - found[gold]) * wrong
    return np.diag(confusion) / confusion.sum(axis=0)


def scored(sharpness: float, share: float) -> Population:
    """Two classes, one with the given share, and probabilities that vary from row to row; calibrated at 1."""

    def draw(random: np.random.Generator, rows: int) -> Predictions:
        strength = random.normal(np.log(share / (1 - share)) * 1.3, 1.5, rows)
        gold = (random.random(rows) < 1 / (1 + np.exp(-strength))).astype(int)
        chance = 1 / (1 + np.exp(-sharpness * strength))
        return Predictions(gold, (chance > 0.5).astype(int), np.stack([1 - chance, chance], axis=1))

    return draw


def labelled(shares: list[float], sharpness: float = 1.0) -> Population:
    """Several labels a row, each with a share of its own."""

    def draw(random: np.random.Generator, rows: int) -> Predictions:
        logit = np.log(np.array(shares) / (1 - np.array(shares))) * 1.3
        strength = random.normal(logit, 2.0, (rows, len(shares))) + random.normal(0, 0.5, (rows, 1))
        gold = random.random((rows, len(shares))) < 1 / (1 + np.exp(-strength))
        chance = 1 / (1 + np.exp(-sharpness * strength))
        return Predictions(gold, chance > 0.5, chance)

    return draw


def measured(tails: float) -> Population:
    """A number a row; errors with Student's t of so many degrees of freedom, skewed gold."""

    def draw(random: np.random.Generator, rows: int) -> Predictions:
        gold = random.gamma(4, 1, rows)
        return Predictions(gold, 0.8 * gold + 0.8 + 0.7 * random.standard_t(tails, rows))

    return draw


def tagged(shares: list[float], found: float) -> Population:
    """Sentences with spans of several types."""

    def draw(random: np.random.Generator, rows: int) -> RowCounts:
        easy = random.beta(found * 8, (1 - found) * 8, (rows, 1))
        gold = random.poisson(shares, (rows, len(shares)))
        hits = random.binomial(gold, easy)
        guess = hits + random.poisson(np.array(shares) * (1 - found), (rows, len(shares)))
        tokens = random.poisson(15, rows) + 1 + gold.sum(axis=1) * 2
        right = tokens - 2 * (gold - hits).sum(axis=1)
        return RowCounts({"gold": gold, "guess": guess, "hits": hits, "tokens": tokens, "right_tokens": right})

    return draw


def questioned(unanswerable: float, found: float) -> Population:
    """Questions, some of them without an answer."""

    def draw(random: np.random.Generator, rows: int) -> RowCounts:
        answerable = (random.random(rows) >= unanswerable).astype(float)
        exact = (random.random(rows) < found).astype(float)
        partly = np.where(random.random(rows) < 0.4, random.random(rows), 0)
        f1 = np.where(exact > 0, 1, partly * answerable)
        counts = {"exact": exact, "f1": f1, "answerable": answerable, "unanswerable": 1 - answerable}
        return RowCounts({**counts, "answerable_f1": f1 * answerable, "no_answer_right": exact * (1 - answerable)})

    return draw


def expected() -> Population:
    """Texts of a language model: the surprise of a text goes with its length."""

    def draw(random: np.random.Generator, rows: int) -> RowCounts:
        tokens = random.poisson(30, rows) + 1
        return RowCounts({"tokens": tokens, "nll": tokens * random.lognormal(1, 0.4, rows)})

    return draw


def written(quality: float) -> Population:
    """Generated texts: in each, n-grams of order k match with the k-th power of the text's own quality."""

    def draw(random: np.random.Generator, rows: int) -> RowCounts:
        good = random.beta(quality * 6, (1 - quality) * 6, rows)
        wanted = random.poisson(12, rows) + 5
        length = np.maximum(4, wanted + random.poisson(2, rows) - 2)
        bleu, chrf = [length, wanted], []
        totals = [np.maximum(length - order, 0) for order in range(4)]
        bleu += [random.binomial(total, good ** (order + 1)) for order, total in enumerate(totals)] + totals
        for order in range(6):
            ours, theirs = 5 * length - order, 5 * wanted - order
            chrf += [ours, theirs, random.binomial(np.minimum(ours, theirs), good ** (0.5 * order + 0.5))]
        rouge = {name: random.binomial(length, good**power) / length for name, power in ROUGE_POWERS.items()}
        exact = (random.random(rows) < good**3).astype(float)
        return RowCounts({"bleu": np.stack(bleu, 1), "chrf": np.stack(chrf, 1), **rouge, "exact": exact})

    return draw


def preferred(right: float) -> Population:
    """Pairs of a chosen and a rejected answer: rewards, their distance from the reference, and lengths."""

    def draw(random: np.random.Generator, rows: int) -> RowCounts:
        chosen, rejected = random.normal(stats.norm.ppf(right) * np.sqrt(2), 1, rows), random.normal(0, 1, rows)
        tokens = random.poisson(22, rows) + 1, random.poisson(18, rows) + 1
        return RowCounts(pair_counts(chosen, rejected, tokens, (tokens[0] + tokens[1]) * random.gamma(1, 0.05, rows)))

    return draw


def desired(share: float) -> Population:
    """Single answers that are desirable or not, with rewards around a reference point of 0."""

    def draw(random: np.random.Generator, rows: int) -> RowCounts:
        desirable = random.random(rows) < share
        counts = single_counts(random.normal(np.where(desirable, 0.8, -0.3), 1), 0.0, desirable)
        tokens = random.poisson(20, rows) + 1
        return RowCounts({**counts, "moved": tokens * random.gamma(1, 0.05, rows), "answer_tokens": tokens})

    return draw


def in_groups(rows_per_group: int, correlation: float = 0.4, right: float = 0.8) -> Population:
    """Right or wrong, in groups of rows that are alike by the given intra-group correlation (a beta-binomial)."""
    strength = (1 - correlation) / correlation

    def draw(random: np.random.Generator, rows: int) -> RowCounts:
        groups = np.arange(rows) // rows_per_group
        chance = random.beta(right * strength, (1 - right) * strength, groups[-1] + 1)
        return RowCounts({"right": (random.random(rows) < chance[groups]).astype(float)}, groups)

    return draw


def coverage(
    population: Population, metrics: Mapping[str, Metric], rows: int, repeats: int, resamples: int, level: float = 0.95
) -> dict[str, dict[str, Any]]:
    """By metric: the share of intervals that hold the truth, of those that there are, and how many there are."""
    truth = {
        name: float(metric.function(population(np.random.default_rng(0), LARGE))) for name, metric in metrics.items()
    }
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in metrics}
    for repeat in range(repeats):
        random = np.random.default_rng([1, repeat])
        for name, score in bootstrap(population(random, rows), metrics, level, resamples, repeat).items():
            if np.isfinite(score.low):
                found[name].append(score)
    facts = {}
    for name, scores in found.items():
        value, low, high = np.array(scores).reshape(-1, 3).T
        assert ((low <= value) & (value <= high)).all(), name
        inside = (low <= truth[name] + 1e-12) & (truth[name] - 1e-12 <= high)
        below = (truth[name] < low).mean() if len(low) else np.nan
        facts[name] = {"truth": truth[name], "coverage": inside.mean() if len(low) else np.nan, "below": below}
        facts[name] |= {"width": (high - low).mean() if len(low) else np.nan, "intervals": len(low) / repeats}
    return facts
