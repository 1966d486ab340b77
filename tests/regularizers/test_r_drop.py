"""How far two passes disagree, by hand and against the paper's loss. `pytest tests/regularizers/test_r_drop.py`."""

import math

import pytest
import torch
from torch.nn import functional

from pipeline_lib.regularizers import RDrop


def test_by_hand():
    # p = (1/2, 1/2), q = (3/4, 1/4): KL(p|q) = ln(4/3) / 2 and KL(q|p) = 3/4 ln(3/2) + 1/4 ln(1/2), together ln(3) / 4
    first, second = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.75, 0.25]]).log()
    assert math.log(4 / 3) / 2 + 0.75 * math.log(1.5) + 0.25 * math.log(0.5) == pytest.approx(math.log(3) / 4)
    assert RDrop(kind="r_drop", alpha=2).consistency_loss(first, second).item() == pytest.approx(
        2 / 4 * math.log(3) / 4
    )


def test_it_is_the_sum_over_units_and_blind_to_a_shift_of_logits():
    first, second = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.75, 0.25]]).log()
    one = RDrop(kind="r_drop").consistency_loss(first, second)
    assert torch.allclose(
        RDrop(kind="r_drop").consistency_loss(first.repeat(3, 1) + 7, second.repeat(3, 1) - 2), 3 * one
    )


def test_loss_and_gradient_are_half_of_the_papers():
    torch.manual_seed(0)
    first, second = torch.randn(5, 4, requires_grad=True), torch.randn(5, 4, requires_grad=True)
    right = torch.tensor([0, 3, 1, 2, 2])
    p, q = first.softmax(-1), second.softmax(-1)
    kl = (p * (p / q).log()).sum() + (q * (q / p).log()).sum()
    nll = [functional.cross_entropy(logits, right, reduction="sum") for logits in (first, second)]
    paper = nll[0] + nll[1] + 5 / 2 * kl
    ours = (nll[0] + nll[1]) / 2 + RDrop(kind="r_drop", alpha=5).consistency_loss(first, second)
    assert ours.item() == pytest.approx(paper.item() / 2, rel=1e-5)
    theirs = torch.autograd.grad(paper, (first, second), retain_graph=True)
    for got, expected in zip(torch.autograd.grad(ours, (first, second)), theirs, strict=True):
        assert torch.allclose(got, expected / 2, atol=1e-6)


def test_equal_passes_agree():
    logits = torch.randn(3, 4, requires_grad=True)
    term = RDrop(kind="r_drop").consistency_loss(logits, logits.clone())
    term.backward()
    assert term.item() == 0
    assert not logits.grad.any()


def test_choices_that_are_ruled_out_do_no_harm():
    # question answering gives tokens that cannot be chosen -1e4
    first = torch.tensor([[0.0, 1.0, -1e4]], requires_grad=True)
    term = RDrop(kind="r_drop").consistency_loss(first, torch.tensor([[1.0, 0.0, -1e4]]))
    term.backward()
    assert term.item() == pytest.approx(
        RDrop(kind="r_drop").consistency_loss(first[:, :2], torch.tensor([[1.0, 0.0]])).item()
    )
    assert torch.isfinite(first.grad).all()


def test_it_wants_a_second_pass():
    assert RDrop(kind="r_drop").needs_second_forward
