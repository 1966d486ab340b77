"""A sharded training computes what a single process does, from a part of the weights in each process.

The processes are started once for all tests. `pytest tests/training/distributed/test_sharding.py`
"""

from types import SimpleNamespace

import pytest
import torch
from conftest import word_tokenizer
from families import tokenizer_kind, write_family
from ranks import Ranks, compare

from pipeline_lib.errors import RecipeError
from pipeline_lib.recipe.schema import check
from pipeline_lib.training.distributed import sharding
from pipeline_lib.training.distributed.sharding import choose_sharding, refuse_sharding


@pytest.fixture(scope="module")
def alone():
    ranks = Ranks(1)
    yield ranks
    ranks.close()


@pytest.fixture(scope="module")
def two():
    ranks = Ranks(2)
    yield ranks
    ranks.close()


@pytest.fixture(scope="module")
def three():
    ranks = Ranks(3)
    yield ranks
    ranks.close()


@pytest.fixture(scope="module")
def base_of(tmp_path_factory):
    """The folder of a tiny model of a family."""
    folder = tmp_path_factory.mktemp("bases")

    def make(family):
        if not (folder / family).exists():
            write_family(family, word_tokenizer(tokenizer_kind(family)), folder / family)
        return folder / family

    return make


def test_two_processes_keep_half_of_weights_and_optimizer_each(alone, two, base_of):
    for answer in compare(alone, two, base_of("bert"), "classification", "full"):
        assert answer["share"] < 0.52
        assert answer["state_share"] < 0.52


COMBINATIONS = [
    ("bert", "labelling", "gradual"),
    ("llama", "dialogue", "lora"),
    ("llama", "pairs", "full"),
    ("gpt2", "labelled", "lora"),
    ("gemma2", "causal", "full"),
    ("t5", "seq2seq", "full"),
    ("t5", "spans", "parallel"),
    ("bart", "seq2seq", "deep prompt"),
    ("albert", "classification", "houlsby"),
    ("bert", "cloze", "prompt"),
    ("modernbert", "reading", "layerwise"),
    ("qwen3", "reading", "dora"),
    ("bert", "classification", "ia3"),
    ("opt", "dialogue", "last layer and lora"),
]


@pytest.mark.processes
@pytest.mark.parametrize("count", ["two", "three"])
@pytest.mark.parametrize("family, objective, strategy", COMBINATIONS)
def test_the_processes_compute_what_one_does(request, alone, base_of, count, family, objective, strategy):
    compare(alone, request.getfixturevalue(count), base_of(family), objective, strategy)


OPTIMIZERS = ["adamw", "muon", "sgd"]


@pytest.mark.processes
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_optimizers_take_the_same_steps_on_shards(alone, two, base_of, kind):
    changes = {"training": {"epochs": 3, "learning_rate": 1e-3, "optimizer": {"kind": kind}}}
    compare(alone, two, base_of("bert"), "classification", "full", changes=changes)


REGULARIZERS = {
    "l2_sp": [{"kind": "l2_sp", "value": 0.5, "head_value": 0.5}],
    "mixout": [{"kind": "mixout", "probability": 0.5}],
    "r_drop": [{"kind": "r_drop", "alpha": 1.0}],
    "label_smoothing": [{"kind": "label_smoothing"}],
    "weight_decay": [{"kind": "weight_decay", "value": 0.1}],
}


@pytest.mark.processes
@pytest.mark.parametrize("kind", REGULARIZERS)
def test_regularizers_act_on_shards_as_on_whole_weights(alone, two, base_of, kind):
    changes = {"regularizers": [{"kind": "dropout", "value": 0.0}, *REGULARIZERS[kind]]}
    compare(alone, two, base_of("bert"), "classification", "full", changes=changes)


@pytest.mark.processes
def test_a_frozen_base_in_half_precision_is_sharded_beside_trained_weights_in_fp32(alone, two, base_of):
    compare(alone, two, base_of("llama"), "dialogue", "lora", dtype="bf16")


@pytest.mark.processes
@pytest.mark.parametrize("option", ["gradient_checkpointing", "packing"])
def test_options_of_training_on_shards(alone, two, base_of, option):
    changes = {"training": {"epochs": 3, "learning_rate": 1e-3, "batch_tokens": 40, option: True}}
    compare(alone, two, base_of("llama"), "dialogue", "full", changes=changes)


@pytest.mark.processes
def test_ranks_with_fewer_passes_than_others_take_idle_ones(alone, two, base_of):
    changes = {"training": {"epochs": 3, "learning_rate": 1e-3, "batch_tokens": 7}}
    compare(alone, two, base_of("bert"), "classification", "full", changes=changes)


@pytest.mark.processes
def test_hybrid_shards_within_a_machine_and_copies_between_machines(alone, base_of):
    machines = Ranks(4, of_machine=2)
    try:
        answers = compare(alone, machines, base_of("llama"), "dialogue", "full", sharding="hybrid")
    finally:
        machines.close()
    assert all(0.48 < answer["share"] < 0.52 for answer in answers)


@pytest.mark.processes
def test_a_family_that_does_not_call_its_layers_is_refused(two, base_of):
    for answer in two.train(base_of("squeezebert"), "classification", "full"):
        assert "execution.sharding = 'full': is not supported by the family squeezebert" in answer["refused"]


UNFIT = {
    "adafactor": {"training": {"optimizer": {"kind": "adafactor"}}},
    "adamw_8bit": {"training": {"optimizer": {"kind": "adamw_8bit"}}},
    "quantization": {"model": {"base": "base", "quantization": {"kind": "int8"}}, "strategies": [{"kind": "lora"}]},
}


@pytest.mark.parametrize("part", UNFIT)
def test_what_needs_whole_weights_is_refused_or_keeps_auto_from_sharding(document, part, monkeypatch):
    document |= UNFIT[part]
    refuse_sharding(check(document))  # a single process
    document["execution"] |= {"processes": 2}
    refuse_sharding(check(document))  # auto
    monkeypatch.setattr(sharding, "_memory", lambda accelerator: 1)
    monkeypatch.setattr(sharding, "any_rank", lambda here, accelerator: here)
    assert choose_sharding(check(document), torch.nn.Linear(2, 2), PAIR) == "none"
    document["execution"] |= {"sharding": "full"}
    with pytest.raises(RecipeError, match=f"execution.sharding = 'full': cannot be combined with .*{part}"):
        refuse_sharding(check(document))


PAIR = SimpleNamespace(num_processes=2, is_main_process=False, device=torch.device("cpu"))


@pytest.mark.parametrize("memory, expected", [(10_000, "none"), (350, "none"), (340, "full"), (200, "full")])
def test_auto_divides_a_model_whose_copy_does_not_fit(document, monkeypatch, memory, expected):
    monkeypatch.setattr(sharding, "_memory", lambda accelerator: memory)
    monkeypatch.setattr(sharding, "any_rank", lambda here, accelerator: here)
    document["execution"] |= {"processes": 2}
    model = torch.nn.Linear(2, 5)  # 15 numbers of 4 bytes, with a gradient and two averages each: 240 bytes
    assert choose_sharding(check(document), model, PAIR) == expected
    model.requires_grad_(False)  # 60 bytes
    assert choose_sharding(check(document), model, PAIR) == "none"
