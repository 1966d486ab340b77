"""Metrics of preferences: of the rewards that a model gives to answers, and of how far it is from the reference.

The reward of an answer y to a prompt x is beta (log p(y|x) - log p_ref(y|x)): Rafailov et al. (2023), "Direct
Preference Optimization", equation 5 without the term that only depends on x. For the losses without a reference it is
beta times the mean log-probability of a token: Meng et al. (2024), "SimPO", equation 4.
"""

from math import inf, nan
from typing import Any

import numpy as np

from pipeline_lib.evaluation.predictions import Metric
from pipeline_lib.evaluation.totals import Totals, ratio

TIE = 1e-4
"""Rewards that differ by less are equal but for rounding: such a pair counts half."""


def pair_counts(
    chosen: np.ndarray, rejected: np.ndarray, tokens: tuple[np.ndarray, np.ndarray], moved: np.ndarray
) -> dict[str, np.ndarray]:
    """What PAIRED needs of n pairs, [n] each.

    Args:
        chosen: [n] rewards of chosen answers.
        rejected: [n] rewards of rejected answers.
        tokens: [n] each: tokens of chosen and of rejected answers.
        moved: [n] the sum over both answers' tokens of (log p - log p_ref)^2 / 2.
    """
    margin, longer = chosen - rejected, np.sign(tokens[0] - tokens[1])
    unequal = longer != 0
    return {
        "right": _won(margin),
        "margin": margin,
        "moved": moved,
        "answer_tokens": tokens[0] + tokens[1],
        "unequal": unequal.astype(float),
        "longer_preferred": np.where(unequal, _won(margin * longer), 0.0),
        "longer_chosen": (longer > 0).astype(float),
    }


def single_counts(rewards: np.ndarray, point: float, desirable: np.ndarray) -> dict[str, np.ndarray]:
    """What SINGLE needs of n answers beside `moved` and `answer_tokens`, [n] each.

    Args:
        rewards: [n] rewards.
        point: KTO's reference point, as a reward.
        desirable: [n] bool.
    """
    return {
        "right": _won(np.where(desirable, rewards - point, point - rewards)),
        "reward_desirable": np.where(desirable, rewards, 0.0),
        "desirable": desirable.astype(float),
        "reward_undesirable": np.where(desirable, 0.0, rewards),
        "undesirable": (~desirable).astype(float),
    }


def _won(margin: np.ndarray) -> np.ndarray:
    return np.where(np.abs(margin) < TIE, 0.5, (margin > 0).astype(float))


def kl(totals: Totals) -> Any:
    """Schulman (2020), "Approximating KL Divergence", the estimator k2: mean of (log p - log p_ref)^2 / 2 by token.

    It is an estimate of KL(p | p_ref) from answers that the model itself has written. These here are the data's, so
    read it as a distance: 0 where the model gives each token the reference's probability, and never negative.
    """
    return ratio(totals.total("moved"), totals.total("answer_tokens"), nan)


def length_bias(totals: Totals) -> Any:
    """Share of pairs of which the longer answer has the higher reward, less the share of which it is the chosen one.

    Of pairs of unequal length; 0 where the model favours length no more than the data do. Park et al. (2024),
    "Disentangling Length from Quality in Direct Preference Optimization", describe the effect.
    """
    return ratio(totals.total("longer_preferred") - totals.total("longer_chosen"), totals.total("unequal"), nan)


def single_margin(totals: Totals) -> Any:
    """The mean reward of desirable answers less that of undesirable ones; nan where one of these lacks."""
    good = ratio(totals.total("reward_desirable"), totals.total("desirable"), nan)
    return good - ratio(totals.total("reward_undesirable"), totals.total("undesirable"), nan)


KL = Metric(kl, False, "distance from the reference model, in nats per token of the answers: 0 for none", (0, inf))
PAIRED: dict[str, Metric] = {
    "preference_accuracy": Metric(
        lambda totals: totals.mean("right"), True, "share of pairs whose chosen answer has the higher reward", (0, 1)
    ),
    "margin": Metric(
        lambda totals: totals.mean("margin"), True, "reward of the chosen less that of the rejected answer"
    ),
    "kl": KL,
    "length_bias": Metric(
        length_bias, False, "how much more often than the data the model prefers the longer answer", (-1, 1)
    ),
}
SINGLE: dict[str, Metric] = {
    "preference_accuracy": Metric(
        lambda totals: totals.mean("right"), True, "share of answers on the right side of the reference point", (0, 1)
    ),
    "margin": Metric(single_margin, True, "mean reward of desirable less that of undesirable answers"),
    "kl": KL,
}
