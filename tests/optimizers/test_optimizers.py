"""What every optimizer promises in a training. `pytest tests/optimizers`."""

from typing import get_args

import pytest
import torch
from loops import ALONE, loop_of
from pydantic import TypeAdapter

from pipeline_lib.optimizers import Optimizer
from pipeline_lib.optimizers.base import Group
from pipeline_lib.recipe.schema import check
from pipeline_lib.training.checkpoint import Checkpoints, State
from pipeline_lib.util.signals import Pruned

KINDS = [get_args(section.model_fields["kind"].annotation)[0] for section in get_args(get_args(Optimizer)[0])]
RATES = {"sgd": 0.3, "adafactor": 0.05}
"""Learning rates other than AdamW's."""


def recipe_of(document, kind, **training):
    rate = RATES.get(kind, 2e-3)
    document["training"] |= {"epochs": 3, "learning_rate": rate, "optimizer": {"kind": kind}} | training
    return check(document)


def weights_of(loop):
    return {name: weight.detach().clone() for name, weight in loop.model.named_parameters()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_falls_and_a_resumed_training_ends_with_the_same_bytes(document, tmp_path, kind):
    document["regularizers"] = [{"kind": "weight_decay"}]
    recipe = recipe_of(document, kind)
    whole = loop_of(recipe, tmp_path / "whole")
    state = whole.run()
    losses = [r["value"] for r in state.history if r["split"] == "train" and r["metric"] == "loss"]
    steps = len(losses) // 3
    assert sum(losses[-steps:]) < 0.8 * sum(losses[:steps])
    stopped = loop_of(recipe, tmp_path / "resumed")
    stopped.watch = lambda records, steps: "stop" if any(r["split"] == "validation" for r in records) else None
    with pytest.raises(Pruned):
        stopped.run()
    resumed = loop_of(recipe, tmp_path / "resumed")
    resumed.begin()
    assert resumed.state.epoch == 1
    resumed.run()
    expected = weights_of(whole)
    for name, weight in weights_of(resumed).items():
        assert torch.equal(weight, expected[name]), name


@pytest.mark.parametrize("kind", KINDS)
def test_large_gradients_are_scaled_down(document, tmp_path, kind):
    changes = []
    for largest in (1e-3, 1e9):
        loop = loop_of(recipe_of(document, kind, max_grad_norm=largest), tmp_path / str(largest))
        loop.begin()
        before = weights_of(loop)
        inner, given = loop.optimizer.optimizer, {}
        step = inner.step

        def recorded(closure=None, step=step, loop=loop, inner=inner, given=given):
            scale = getattr(inner, "grad_scale", 1.0)
            given.update({name: weight.grad / scale for name, weight in loop.stepper.weights.items()})
            return step(closure)

        inner.step = recorded
        record = loop.stepper.step(loop.plans[0][0], 0, 1.0)
        norm = torch.cat([gradient.flatten() for gradient in given.values()]).norm().item()
        assert norm == pytest.approx(min(largest, record["grad_norm"]), rel=1e-3)
        changes.append(sum((after - before[name]).norm() ** 2 for name, after in weights_of(loop).items()) ** 0.5)
    if kind == "sgd":  # the only one whose first step is proportional to the gradients
        assert changes[0].item() == pytest.approx(RATES["sgd"] * 1e-3, rel=1e-2)
        assert changes[1] > 10 * changes[0]


def stepped(optimizer, weight, gradients):
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()


def averages_of(kind, weight):
    """An optimizer of one weight."""
    section = TypeAdapter(Optimizer).validate_python({"kind": kind})
    return section.build([Group([weight], 1e-2, 0.01, hidden=True)])


def test_8_bit_averages_take_a_quarter_of_the_memory_and_are_resumed(tmp_path):
    torch.manual_seed(3)
    start, gradients = torch.randn(96, 128), [torch.randn(96, 128) for _ in range(4)]
    taken, changed = {}, {}
    for kind in ("adamw", "adamw_8bit"):
        weight = torch.nn.Parameter(start.clone())
        optimizer = averages_of(kind, weight)
        stepped(optimizer, weight, gradients[:2])
        Checkpoints(tmp_path, ALONE).save(State(step=2), {"weight": weight}, optimizer)
        stepped(optimizer, weight, gradients[2:])
        again = torch.nn.Parameter(torch.zeros(96, 128))
        resumed = averages_of(kind, again)
        assert Checkpoints(tmp_path, ALONE).restore({"weight": again}, resumed).step == 2
        stepped(resumed, again, gradients[2:])
        assert torch.equal(again, weight)
        state = {name: value for name, value in optimizer.state[weight].items() if "qmap" not in name}
        taken[kind] = sum(value.nbytes for value in state.values() if isinstance(value, torch.Tensor))
        changed[kind] = weight.detach() - start
    assert taken["adamw_8bit"] < 0.26 * taken["adamw"]
    assert torch.nn.functional.cosine_similarity(*map(torch.flatten, changed.values()), dim=0) > 0.99


def test_muon_trains_matrices_inside_the_model_and_adamw_the_rest(document, tmp_path):
    loop = loop_of(recipe_of(document, "muon"), tmp_path / "muon")
    loop.begin()
    loop.stepper.step(loop.plans[0][0], 0, 1.0)
    state = loop.optimizer.optimizer.state
    by_muon = {name for name, weight in loop.stepper.weights.items() if "momentum_buffer" in state[weight]}
    by_adamw = {name for name, weight in loop.stepper.weights.items() if "exp_avg" in state[weight]}
    assert by_muon | by_adamw == set(loop.stepper.weights) and not by_muon & by_adamw
    assert any("attention" in name for name in by_muon)
    assert not any(part in name for name in by_muon for part in ("embeddings", "classifier", "bias", "LayerNorm"))
