"""How well a language model expects a text; over all tokens together, so that long rows count for more."""

from math import inf, log, nan
from typing import Any

import numpy as np

from pipeline_lib.evaluation.predictions import Metric
from pipeline_lib.evaluation.totals import Totals, ratio


def _nats_per_token(totals: Totals) -> Any:
    return ratio(totals.total("nll"), totals.total("tokens"), nan)


def perplexity(totals: Totals) -> Any:
    """Jelinek et al. (1977), "Perplexity: a measure of the difficulty of speech recognition tasks".

    exp of the mean negative log likelihood of a token, from 1: as unsure as among so many tokens, all equally likely.
    Of the counts `nll` [n] in nats and `tokens` [n]; nan without tokens.
    """
    with np.errstate(over="ignore"):  # of a model gone astray it is infinite
        return np.exp(_nats_per_token(totals))


def bits_per_token(totals: Totals) -> Any:
    """The binary logarithm of the perplexity, from 0: Shannon (1948), section 7; nan without tokens."""
    return _nats_per_token(totals) / log(2)


LIKELIHOOD: dict[str, Metric] = {
    "perplexity": Metric(
        perplexity,
        False,
        "among how many tokens, all equally likely, the model wavers: 1 where it was always certain",
        bounds=(1, inf),
    ),
    "bits_per_token": Metric(
        bits_per_token, False, "surprise at each token of the text, in bits: 0 for none", bounds=(0, inf)
    ),
}
