"""Mixed weights inside a step, true ones outside. `pytest tests/regularizers/test_mixout.py`."""

import pytest
import torch
from torch.nn import Parameter

from pipeline_lib.regularizers import Mixout


def half():
    return Mixout(kind="mixout", probability=0.5)


def test_two_weights_by_hand():
    # p = 0.5, w = 3, u = 1: kept (3 - 0.5 * 1) / 0.5 = 5, put back (1 - 0.5 * 1) / 0.5 = 1
    weights, start = {"w": Parameter(torch.tensor([3.0, 3.0]))}, {"w": torch.tensor([1.0, 1.0])}
    seen = set()
    for seed in range(30):
        torch.manual_seed(seed)
        with half().perturb_weights(weights, start):
            seen.add(tuple(weights["w"].tolist()))
    assert seen == {(5.0, 5.0), (5.0, 1.0), (1.0, 5.0), (1.0, 1.0)}  # each is drawn by itself


@pytest.mark.parametrize("probability", [0.0, 0.3, 0.7, 0.9])
def test_the_mean_is_the_weight_and_the_share_is_the_probability(probability):
    torch.manual_seed(0)
    weights, start = {"w": Parameter(torch.full((1000, 1000), 3.0))}, {"w": torch.full((1000, 1000), 1.0)}
    with Mixout(kind="mixout", probability=probability).perturb_weights(weights, start):
        assert weights["w"].mean().item() == pytest.approx(3.0, abs=0.03)  # five standard errors at 0.9
        assert (weights["w"] == 1.0).float().mean().item() == pytest.approx(probability, abs=0.003)


def test_the_gradient_is_that_of_the_chain_rule():
    torch.manual_seed(0)
    weights, start = {"w": Parameter(torch.randn(50))}, {"w": torch.randn(50)}
    slope = torch.randn(50)
    with Mixout(kind="mixout", probability=0.6).perturb_weights(weights, start):
        mixed = weights["w"].detach().clone()
        (weights["w"] * slope).sum().backward()
    put_back = mixed == start["w"]
    assert 20 < put_back.sum() < 40
    # d/dw ((1 - M) w + M u - p u) / (1 - p) = (1 - M) / 0.4
    assert torch.allclose(weights["w"].grad, torch.where(put_back, 0.0, slope / 0.4))


def test_the_gradient_equals_that_of_the_equation_through_a_network():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))
    start = {name: torch.randn_like(weight) for name, weight in net.named_parameters()}
    inputs = torch.randn(4, 6)
    torch.manual_seed(1)
    with half().perturb_weights(dict(net.named_parameters()), start):
        masks = {name: (weight == start[name]).float() for name, weight in net.named_parameters()}
        net(inputs[:2]).square().sum().backward()  # two parts of one step see the same weights
        net(inputs[2:]).square().sum().backward()
    got = {name: weight.grad.clone() for name, weight in net.named_parameters()}
    net.zero_grad()
    mixed = {
        name: ((1 - masks[name]) * weight + masks[name] * start[name] - 0.5 * start[name]) / 0.5
        for name, weight in net.named_parameters()
    }
    torch.func.functional_call(net, mixed, (inputs,)).square().sum().backward()
    for name, weight in net.named_parameters():
        assert torch.allclose(got[name], weight.grad, rtol=1e-4, atol=1e-5), name


def test_the_weights_come_back_to_the_bit_and_stay_the_optimizers():
    torch.manual_seed(0)
    weight = Parameter(torch.randn(100))
    before, place = weight.detach().clone(), weight.data_ptr()
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=True)
    with half().perturb_weights({"w": weight}, {"w": torch.randn(100)}):
        assert not torch.equal(weight, before)
        weight.sum().backward()
    assert torch.equal(weight, before)
    assert weight.data_ptr() == place
    optimizer.step()
    assert not torch.equal(weight, before)


def test_they_come_back_from_a_step_that_fails():
    weight = Parameter(torch.tensor([3.0, 4.0]))
    with pytest.raises(FloatingPointError), half().perturb_weights({"w": weight}, {"w": torch.zeros(2)}):
        raise FloatingPointError
    assert weight.tolist() == [3.0, 4.0]


def test_a_weight_that_has_not_moved_is_left_as_it_is():
    torch.manual_seed(0)
    weight = Parameter(torch.randn(1000))
    before = weight.detach().clone()
    with half().perturb_weights({"w": weight}, {"w": before}):
        assert torch.equal(weight, before)


def test_the_seed_decides():
    def drawn(seed):
        weights, start = {"w": Parameter(torch.ones(100))}, {"w": torch.zeros(100)}
        torch.manual_seed(seed)
        with half().perturb_weights(weights, start):
            return weights["w"].tolist()

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_it_asks_for_the_start():
    assert Mixout.needs_start
