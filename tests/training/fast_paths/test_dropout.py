"""Dropout with cheap random numbers is dropout: its share, its scale, its seed. `pytest tests/training`."""

import copy

import pytest
import torch
from torch import nn

from pipeline_lib.training.fast_paths.dropout import draw_faster


def faster(p):
    module = nn.Sequential(nn.Dropout(p))
    draw_faster(module)
    return module


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_units_are_zero_with_probability_p_and_scaled_otherwise(p, kind):
    torch.manual_seed(7)
    given = torch.ones(401, 503, dtype=kind, requires_grad=True)
    out = faster(p)(given)
    dropped = out == 0
    spread = (p * (1 - p) / out.numel()) ** 0.5
    assert abs(dropped.double().mean() - p) < 5 * spread + 1 / 2**16
    assert set(out.unique().tolist()) == {0.0, torch.tensor(1 / (1 - p)).to(kind).item()}
    out.sum().backward()
    assert torch.equal(given.grad, out.detach())


def test_units_are_drawn_apart_from_one_another():
    torch.manual_seed(7)
    dropped = (faster(0.5)(torch.ones(100_000)) == 0).double()
    for apart in (1, 2, 3, 4, 8):
        both = (dropped[apart:] * dropped[:-apart]).mean()
        assert abs(both - 0.25) < 5 * (0.25 * 0.75 / 100_000) ** 0.5


def test_the_seed_decides():
    module, given = faster(0.5), torch.ones(1000)
    drawn = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        drawn.append(module(given))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_all_or_nothing(p):
    assert torch.equal(faster(p)(torch.ones(100)), torch.full((100,), 1.0 - p))


def test_nothing_is_dropped_in_evaluation_and_no_random_number_drawn():
    before = torch.get_rng_state()
    given = torch.randn(10, generator=torch.Generator().manual_seed(1))
    assert torch.equal(faster(0.5).eval()(given), given)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_copy_has_a_mode_of_its_own():
    module = faster(0.5)
    copied = copy.deepcopy(module).eval()
    assert module.training
    assert torch.equal(copied(torch.ones(100)), torch.ones(100))
