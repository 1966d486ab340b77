"""Gradient checkpointing changes no byte of a training. `pytest tests/training/test_activations.py`."""

import numpy as np
import pytest
import torch
from conftest import word_tokenizer
from contract import Ready
from families import write_family
from loops import loop_of

from pipeline_lib.errors import RecipeError
from pipeline_lib.recipe.schema import check
from pipeline_lib.training import activations
from pipeline_lib.training.activations import activation_bytes, checkpoint_activations

CASES = [
    ("bert", "classification", "full"),
    ("bert", "masked", "parallel"),
    ("gpt2", "causal", "full"),
    ("gpt2", "dialogue", "deep prompt"),
    ("llama", "dialogue", "full"),
    ("llama", "dialogue", "lora"),
    ("t5", "seq2seq", "full"),
]


def trained(base, objective, strategy, folder, checkpointing, dropout=0.1):
    """The weights after three steps with dropout."""
    folder.mkdir()
    it = Ready(base, objective, strategy, folder, dropout)
    loop = it.loop
    training = loop.recipe.training.model_copy(update={"gradient_checkpointing": checkpointing, "batch_tokens": 24})
    loop.stepper.recipe = loop.recipe.model_copy(update={"training": training})
    loop.stepper.batch_tokens = 24
    assert checkpoint_activations(loop.stepper) == checkpointing
    records = [loop.stepper.step(np.arange(loop.train.groups), step, 1.0) for step in range(3)]
    return records, {name: parameter.detach() for name, parameter in it.model.named_parameters()}, it


@pytest.mark.parametrize(("family", "objective", "strategy"), CASES)
def test_the_same_bytes_with_and_without(tiny, tmp_path, family, objective, strategy):
    records, weights, _ = trained(tiny[family], objective, strategy, tmp_path / "plain", False)
    again, others, _ = trained(tiny[family], objective, strategy, tmp_path / "checkpointed", True)
    assert again == records
    for name, weight in weights.items():
        assert torch.equal(weight, others[name]), name


def test_dropout_is_drawn(tiny, tmp_path):
    without, *_ = trained(tiny["llama"], "dialogue", "full", tmp_path / "a", False, dropout=0.0)
    drawn, *_ = trained(tiny["llama"], "dialogue", "full", tmp_path / "b", False)
    assert without != drawn


def test_fewer_activations_are_kept(tiny, tmp_path):
    expected = [
        activation_bytes(trained(tiny["bert"], "masked", "full", tmp_path / str(on), on)[2].loop.stepper)
        for on in (False, True)
    ]
    assert expected[1] < 0.5 * expected[0]


def test_measuring_draws_no_random_number_and_counts_the_rows_of_a_pass(tiny, tmp_path):
    stepper = trained(tiny["bert"], "classification", "full", tmp_path / "a", False)[2].loop.stepper
    state = torch.get_rng_state()
    once = activation_bytes(stepper)
    assert torch.equal(torch.get_rng_state(), state)
    training = stepper.recipe.training.model_copy(update={"batch_tokens": 10 * int(stepper.train.group_tokens.max())})
    stepper.recipe = stepper.recipe.model_copy(update={"training": training})
    assert activation_bytes(stepper) > 3 * once


def test_auto_is_off_on_a_cpu_and_follows_the_free_memory_of_a_gpu(tiny, tmp_path, monkeypatch):
    stepper = trained(tiny["bert"], "classification", "full", tmp_path / "a", False)[2].loop.stepper
    training = stepper.recipe.training.model_copy(update={"gradient_checkpointing": "auto"})
    stepper.recipe = stepper.recipe.model_copy(update={"training": training})
    monkeypatch.setattr(activations, "_free_memory", lambda: 0)
    assert not checkpoint_activations(stepper)
    gpu = type("Accelerator", (), {"device": torch.device("cuda")})()
    monkeypatch.setattr(stepper, "accelerator", gpu)
    monkeypatch.setattr(activations, "activation_bytes", lambda stepper: 100)
    for free, expected in ((201, False), (199, True)):
        monkeypatch.setattr(activations, "_free_memory", lambda free=free: free)
        assert checkpoint_activations(stepper) == expected


def test_a_family_without_it_is_refused(tmp_path):
    write_family("xlnet", word_tokenizer("bert"), tmp_path)
    with pytest.raises(
        RecipeError, match=r"training.gradient_checkpointing = True: is not supported by the family xlnet"
    ):
        trained(tmp_path, "labelling", "full", tmp_path / "work", True)


def trained_on_a_backbone(document, folder, checkpointing):
    """The weights after a training with a frozen backbone."""
    document["training"]["gradient_checkpointing"] = checkpointing
    loop = loop_of(check(document), folder)
    assert loop.backbone
    loop.run()
    return dict(loop.model.named_parameters())


@pytest.mark.parametrize("strategy", [{"kind": "partial", "last_layers": 1}, {"kind": "full", "start_epoch": 1}])
def test_a_frozen_backbone_works_with_it(document, tmp_path, strategy):
    document["strategies"] = [strategy]
    document["training"]["epochs"] = 2
    weights = trained_on_a_backbone(document, tmp_path / "plain", False)
    others = trained_on_a_backbone(document, tmp_path / "checkpointed", True)
    for name, weight in weights.items():
        assert torch.equal(weight, others[name]), name
