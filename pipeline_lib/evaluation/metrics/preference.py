"""Metrics of preference training: rewards of answers, and the distance from the reference model.

The reward of an answer y to a prompt x is beta (log p(y|x) - log p_ref(y|x)): Rafailov et al. (2023), "Direct
Preference Optimization", equation 5 without the term that depends on x only. For losses without a reference it is
beta times the mean log-probability of a token: Meng et al. (2024), "SimPO", equation 4.
"""

from math import inf, nan
from typing import Any

import numpy as np

from pipeline_lib.evaluation.predictions import Metric
from pipeline_lib.evaluation.totals import Totals, ratio

TIE = 1e-4
"""Rewards that differ by less count as equal, because of rounding: such a pair counts half."""


def pair_counts(
    chosen: np.ndarray, rejected: np.ndarray, tokens: tuple[np.ndarray, np.ndarray], moved: np.ndarray
) -> dict[str, np.ndarray]:
    """Compute the row counts for the metrics in PAIRED, [n] each for n pairs.

    Args:
        chosen: [n] rewards of chosen answers.
        rejected: [n] rewards of rejected answers.
        tokens: Numbers of tokens of chosen and of rejected answers, [n] each.
        moved: [n] the sum over both answers' tokens of (log p - log p_ref)^2 / 2.
    """
    margin, longer = chosen - rejected, np.sign(tokens[0] - tokens[1])
    unequal = longer != 0
    return {
        "right": _win_share(margin),
        "margin": margin,
        "moved": moved,
        "answer_tokens": tokens[0] + tokens[1],
        "unequal": unequal.astype(float),
        "longer_preferred": np.where(unequal, _win_share(margin * longer), 0.0),
        "longer_chosen": (longer > 0).astype(float),
    }


def single_counts(rewards: np.ndarray, point: float, desirable: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the row counts for the metrics in SINGLE, [n] each, except `moved` and `answer_tokens`.

    Args:
        rewards: [n] rewards.
        point: KTO's reference point, as a reward.
        desirable: [n] bool, whether the answer is labelled desirable.
    """
    return {
        "right": _win_share(np.where(desirable, rewards - point, point - rewards)),
        "reward_desirable": np.where(desirable, rewards, 0.0),
        "desirable": desirable.astype(float),
        "reward_undesirable": np.where(desirable, 0.0, rewards),
        "undesirable": (~desirable).astype(float),
    }


def _win_share(margin: np.ndarray) -> np.ndarray:
    """1 for a positive margin, 0 for a negative one, 0.5 for a tie."""
    return np.where(np.abs(margin) < TIE, 0.5, (margin > 0).astype(float))


def kl(totals: Totals) -> Any:
    """Mean over tokens of (log p - log p_ref)^2 / 2: Schulman (2020), "Approximating KL Divergence", estimator k2.

    It estimates KL(p | p_ref) for answers sampled from the model. Here the answers come from the data, so it is only
    a distance: never negative, and 0 if the model gives every token the reference's probability.
    """
    return ratio(totals.total("moved"), totals.total("answer_tokens"), nan)


def length_bias(totals: Totals) -> Any:
    """Share of pairs whose longer answer has the higher reward, minus the share whose longer answer is chosen.

    Over pairs of unequal length; 0 if the model prefers length no more than the data do. Park et al. (2024),
    "Disentangling Length from Quality in Direct Preference Optimization", describe the effect.
    """
    return ratio(totals.total("longer_preferred") - totals.total("longer_chosen"), totals.total("unequal"), nan)


def single_margin(totals: Totals) -> Any:
    """Mean reward of desirable answers minus that of undesirable ones; nan if there are none of either."""
    good = ratio(totals.total("reward_desirable"), totals.total("desirable"), nan)
    return good - ratio(totals.total("reward_undesirable"), totals.total("undesirable"), nan)


KL = Metric(kl, False, "distance from the reference model, in nats per answer token; 0 = identical", (0, inf))
PAIRED: dict[str, Metric] = {
    "preference_accuracy": Metric(
        lambda totals: totals.mean("right"), True, "share of pairs whose chosen answer has the higher reward", (0, 1)
    ),
    "margin": Metric(
        lambda totals: totals.mean("margin"),
        True,
        "reward of the chosen minus that of the rejected answer",
        (-inf, inf),
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
    "margin": Metric(single_margin, True, "mean reward of desirable minus that of undesirable answers", (-inf, inf)),
    "kl": KL,
}
