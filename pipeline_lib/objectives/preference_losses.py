"""The losses of preference tuning, each the sum over n pairs (or rows), as TRL 1.16 computes them.

All take log-probabilities in nats. What is mean over a batch there is a sum here, which the loop divides by the number
of pairs in the whole step.
"""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Answers(NamedTuple):
    """What the losses and metrics need of n answers: [n] each."""

    logp: "Tensor"
    """The answer's log-probability, summed over its tokens."""
    tokens: "Tensor"
    """Tokens of the answer."""
    reference: "Tensor"
    """The answer's log-probability under the reference model, or under the model itself if there is none."""
    moved: "Tensor"
    """Sum over the answer's tokens of (log p - log p of the reference)^2 / 2."""
    nll: "Tensor"
    """Negative log-likelihood of prompt and answer together; only computed for ORPO, else 0."""
    read: "Tensor"
    """Tokens that `nll` is summed over."""
    desirable: "Tensor"
    """1 for wanted answers, 0 for others."""
    step_mean: "Tensor | None" = None
    """The mean over the whole step that the loss needs; None: compute it from these answers."""

    @classmethod
    def from_summary(cls, summary: "Tensor") -> "Answers":
        """From a tensor [n, fields]."""
        return cls(*summary.unbind(-1))

    @property
    def log_ratio(self) -> "Tensor":
        """[n] log p / p of the reference."""
        return self.logp - self.reference

    @property
    def mean_logp(self) -> "Tensor":
        """[n] the log-probability per token."""
        return self.logp / self.tokens.clamp(min=1)


def dpo(chosen: Answers, rejected: Answers, beta: float, smoothing: float = 0.0) -> "Tensor":
    """Rafailov et al. (2023), "Direct Preference Optimization", equation 7: -log sigmoid(beta (log-ratio difference)).

    `smoothing` is the probability that a label is wrong: the conservative DPO of Mitchell (2023), "A note on DPO with
    noisy preferences".
    """
    return _logistic(beta * (chosen.log_ratio - rejected.log_ratio), smoothing)


def ipo(chosen: Answers, rejected: Answers, beta: float) -> "Tensor":
    """Azar et al. (2024), "A General Theoretical Paradigm to Understand Learning from Human Preferences", equation 17.

    tau is called beta. Log-ratios are means over tokens, which is how the paper's authors ran it (a comment in TRL).
    """
    gap = chosen.log_ratio / chosen.tokens.clamp(min=1) - rejected.log_ratio / rejected.tokens.clamp(min=1)
    return ((gap - 1 / (2 * beta)) ** 2).sum()


def orpo(chosen: Answers, rejected: Answers, beta: float) -> "Tensor":
    """Hong et al. (2024), "ORPO: Monolithic Preference Optimization without Reference Model", equation 6.

    Lambda is called beta. L_SFT is the mean over all tokens of prompt and chosen answer in the step, as in TRL; the
    probabilities in the odds are per token (equation 3).
    """
    good, bad = chosen.mean_logp, rejected.mean_logp
    log_odds = (good - bad) - (_log1mexp(good) - _log1mexp(bad))
    tokens = chosen.read.mean() if chosen.step_mean is None else chosen.step_mean[0]
    return chosen.nll.sum() / tokens - beta * _logsigmoid(log_odds).sum()


def simpo(chosen: Answers, rejected: Answers, beta: float, gamma: float, smoothing: float = 0.0) -> "Tensor":
    """Meng et al. (2024), "SimPO: Simple Preference Optimization with a Reference-Free Reward", equation 6."""
    return _logistic(beta * (chosen.mean_logp - rejected.mean_logp) - gamma, smoothing)


def kto(answers: Answers, z0: "Tensor", beta: float, weights: tuple[float, float]) -> "Tensor":
    """Ethayarajh et al. (2024), "KTO: Model Alignment as Prospect Theoretic Optimization", equation 8 (7 in the first
    version).

    Args:
        answers: n answers, desirable or not.
        z0: The reference point (`reference_point`), through which no gradient flows.
        beta: How strongly the value saturates.
        weights: lambda of desirable and of undesirable answers.
    """
    import torch

    desirable, gain = answers.desirable.bool(), beta * (answers.log_ratio - z0)
    value = torch.where(desirable, gain, -gain).sigmoid()
    return (torch.where(desirable, *weights) * (1 - value)).sum()


def reference_point(log_ratio: "Tensor") -> "Tensor":
    """KTO's z0 from the log-ratios of answers to other prompts than their own: max(0, mean), section 4.1."""
    return log_ratio.detach().mean().clamp(min=0)


def _logistic(gap: "Tensor", smoothing: float) -> "Tensor":
    return -((1 - smoothing) * _logsigmoid(gap) + smoothing * _logsigmoid(-gap)).sum()


def _logsigmoid(values: "Tensor") -> "Tensor":
    from torch.nn import functional

    return functional.logsigmoid(values)


def _log1mexp(logp: "Tensor") -> "Tensor":
    """log(1 - exp(x)) of x < 0, exact on both sides of -ln 2: Mächler (2012), equation 7.

    A probability of 1 is reduced slightly, since its odds would be infinite.
    """
    import math

    import torch

    logp = logp.clamp(max=-1e-7)
    return torch.where(logp < -math.log(2), torch.log1p(-logp.exp()), torch.log(-torch.expm1(logp)))
