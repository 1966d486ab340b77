"""Perplexity by hand, over all tokens together, and where it is not defined.

Run: python -m pytest tests/evaluation/metrics/test_perplexity.py
"""

from math import inf, isnan, log

import numpy as np
import pytest

from pipeline_lib.evaluation.metrics.perplexity import LIKELIHOOD
from pipeline_lib.evaluation.predictions import RowCounts

pytestmark = pytest.mark.filterwarnings("error")


def _value(nll, tokens):
    sums = RowCounts({"nll": np.array(nll, float), "tokens": np.array(tokens)})
    return {name: metric.function(sums) for name, metric in LIKELIHOOD.items()}


def test_by_hand():
    value = _value([3 * log(8), 1 * log(2)], [3, 1])  # (1/8)^3 * 1/2 = 2^-10 over 4 tokens
    assert value == {"perplexity": pytest.approx(2**2.5), "bits_per_token": pytest.approx(2.5)}


def test_a_choice_among_equals_and_certainty():
    assert _value([10 * log(50)], [10])["perplexity"] == pytest.approx(50)
    assert _value([0.0], [4]) == {"perplexity": 1, "bits_per_token": 0}


def test_no_tokens_and_no_rows():
    assert all(map(isnan, _value([0.0, 0.0], [0, 0]).values()))
    assert all(map(isnan, _value([], []).values()))


def test_too_large_for_a_float():
    assert _value([1e6], [1])["perplexity"] == inf


def test_lower_is_better_and_it_needs_no_text():
    assert not any(metric.higher_is_better or metric.of_text for metric in LIKELIHOOD.values())
