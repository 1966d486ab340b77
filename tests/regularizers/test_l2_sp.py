"""The pull to the start, against values worked out by hand. `pytest tests/regularizers/test_l2_sp.py`."""

import pytest
import torch
from torch.nn import Parameter

from pipeline_lib.regularizers import L2SP

START = {"base.weight": torch.tensor([[1.0, 2.0]]), "base.bias": torch.tensor([5.0]), "head": torch.tensor([0.3])}
HEAD = {"head"}


def moved():
    """Weights after some steps: the matrix by (2, -1), the bias by 1; the head stands at 4."""
    return {
        "base.weight": Parameter(torch.tensor([[3.0, 1.0]])),
        "base.bias": Parameter(torch.tensor([6.0])),
        "head": Parameter(torch.tensor([4.0])),
    }


def test_by_hand():
    # 0.1 / 2 * (2^2 + 1^2 + 1^2) + 0.5 / 2 * 4^2: the head's start plays no part
    penalty = L2SP(kind="l2_sp", value=0.1, head_value=0.5).penalty(moved(), START, HEAD)
    assert penalty.item() == pytest.approx(0.3 + 4.0)


def test_the_gradient_is_the_distance_times_the_strength():
    weights = moved()
    L2SP(kind="l2_sp", value=0.1, head_value=0.5).penalty(weights, START, HEAD).backward()
    assert weights["base.weight"].grad.tolist() == [pytest.approx([0.2, -0.1])]
    assert weights["base.bias"].grad.tolist() == pytest.approx([0.1])
    assert weights["head"].grad.tolist() == pytest.approx([2.0])


def test_what_is_frozen_adds_nothing():
    weights = moved()
    weights["base.weight"].requires_grad_(False)
    assert L2SP(kind="l2_sp", value=0.1, head_value=0).penalty(weights, START, HEAD).item() == pytest.approx(0.05)


def test_nothing_trained_nothing_to_differentiate():
    weights = moved()
    for weight in weights.values():
        weight.requires_grad_(False)
    assert L2SP(kind="l2_sp").penalty(weights, START, HEAD) is None


def test_it_asks_for_the_start():
    assert L2SP.needs_start
