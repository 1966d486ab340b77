"""Perplexity of language models, over all tokens of the rows together, so that long rows weigh more."""

from math import inf, log, nan
from typing import Any

import numpy as np

from pipeline_lib.evaluation.predictions import Metric
from pipeline_lib.evaluation.totals import Totals, ratio


def _nats_per_token(totals: Totals) -> Any:
    return ratio(totals.total("nll"), totals.total("tokens"), nan)


def perplexity(totals: Totals) -> Any:
    """exp of the mean negative log-likelihood per token, from 1; nan without tokens.

    The effective number of equally likely next tokens. Uses the counts `nll` [n] in nats and `tokens` [n]. Jelinek et
    al. (1977), "Perplexity: a measure of the difficulty of speech recognition tasks".
    """
    with np.errstate(over="ignore"):  # infinite for a diverged model
        return np.exp(_nats_per_token(totals))


def bits_per_token(totals: Totals) -> Any:
    """The binary logarithm of the perplexity, from 0: Shannon (1948), section 7; nan without tokens."""
    return _nats_per_token(totals) / log(2)


LIKELIHOOD: dict[str, Metric] = {
    "perplexity": Metric(
        perplexity,
        False,
        "effective number of equally likely next tokens; 1 = always certain",
        bounds=(1, inf),
    ),
    "bits_per_token": Metric(
        bits_per_token,
        False,
        "negative log-probability per token of the text, in bits; 0 = always certain",
        bounds=(0, inf),
    ),
}
