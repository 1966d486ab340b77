"""The memory that a training will need is known without its weights. `pytest tests/training/test_memory.py`"""

import json
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import MOODS, word_tokenizer
from contract import DOCUMENT, OBJECTIVES, Ready, encode
from families import write_family
from loops import loop_of
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModel, LlamaConfig, LlamaForCausalLM
from typer.testing import CliRunner

from pipeline_lib.cli.main import app
from pipeline_lib.data.examples import Examples, Ragged
from pipeline_lib.data.prepared import load_split
from pipeline_lib.models.base_model import load_tokenizer
from pipeline_lib.models.building import load_initial, write_initial
from pipeline_lib.pipeline import plan_memory, steps
from pipeline_lib.recipe.schema import check
from pipeline_lib.training import memory
from pipeline_lib.training.activations import checkpoint_activations
from pipeline_lib.training.memory import MemoryNeed, memory_need
from pipeline_lib.training.parameters import freeze_and_resolve

CASES = [
    ("bert", "classification", "full"),
    ("bert", "classification", "lora"),
    ("bert", "classification", "parallel"),
    ("bert", "labelling", "last layer"),
    ("bert", "masked", "full"),
    ("bert", "masked", "prompt"),
    ("gpt2", "causal", "full"),
    ("gpt2", "dialogue", "lora"),
    ("gpt2", "dialogue", "deep prompt"),
    ("llama", "dialogue", "full"),
    ("llama", "dialogue", "ia3"),
    ("llama", "dialogue", "prompt"),
    ("t5", "seq2seq", "full"),
    ("t5", "seq2seq", "lora"),
]


class Peak(TorchDispatchMode):
    """The most bytes that tensors took together: those given, and all that operations return."""

    def __init__(self, tensors):
        super().__init__()
        self.alive, self.bytes, self.peak = {}, 0, 0
        for tensor in tensors:
            self.add(tensor)

    def add(self, tensor):
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self.alive:
            self.alive[key] = weakref.ref(storage, lambda _: self.remove(key, size))
            self.bytes += size
            self.peak = max(self.peak, self.bytes)

    def remove(self, key, size):
        del self.alive[key]
        self.bytes -= size

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        outputs = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(outputs):
            if isinstance(tensor, torch.Tensor):
                self.add(tensor)
        return outputs


def estimated(it):
    rows = encode(it.recipe.objective, load_tokenizer(it.base))[2]
    return memory_need(it.recipe, it.base, it.labels, rows)


def measured(it):
    """The peak of three steps over all rows."""
    with Peak(it.model.parameters()) as peak:
        for step in range(3):
            it.loop.stepper.step(np.arange(it.loop.train.groups), step, 1.0)
    return peak.peak


def bytes_of(model):
    """Bytes of all weights and of the trained ones."""
    weights = list(model.parameters())
    return sum(w.nbytes for w in weights), sum(w.nbytes for w in weights if w.requires_grad)


def test_only_embeddings_of_tokens_that_occur_are_trained(document, tmp_path):
    loop = loop_of(check(document), tmp_path / "work")
    need = memory_need(loop.recipe, Path(document["model"]["base"]), [*MOODS], loop.train)
    loop.begin()
    weights, trained = bytes_of(loop.model)
    whole = loop.vocabulary.whole
    assert need.gradients == pytest.approx(trained, abs=5 * whole.shape[1] * 4)  # tokens of the validation rows
    assert need.gradients < trained - loop.model.get_input_embeddings().weight.nbytes + whole.nbytes
    assert need.weights == pytest.approx(weights + whole.nbytes, abs=5 * whole.shape[1] * 4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("family", "objective", "strategy"), CASES)
def test_it_is_within_20_percent_of_what_is_measured(tiny, tmp_path, family, objective, strategy, precision):
    it = Ready(tiny[family], objective, strategy, tmp_path, 0.1, precision=precision)
    need = estimated(it)
    if strategy != "full":  # embeddings are not reduced to the tokens that occur
        assert (need.weights, need.gradients) == bytes_of(it.model)
    assert need.total == pytest.approx(measured(it), rel=0.2)


def test_a_block_under_many_names_is_gathered_once(tmp_path):
    write_family("albert", word_tokenizer("bert"), tmp_path)
    model = AutoModel.from_pretrained(tmp_path)
    assert memory._gathered_bytes(model) == sum(weight.nbytes for weight in model.parameters())


def test_checkpointing_takes_less(tiny, tmp_path):
    it = Ready(tiny["llama"], "dialogue", "full", tmp_path, 0.1)
    usual = estimated(it)
    training = it.recipe.training.model_copy(update={"gradient_checkpointing": True})
    it.recipe = it.loop.stepper.recipe = it.recipe.model_copy(update={"training": training})
    checkpoint_activations(it.loop.stepper)
    need = estimated(it)
    assert need.activations < 0.7 * usual.activations
    assert need.total == pytest.approx(measured(it), rel=0.2)


def test_a_model_of_billions_of_weights_is_planned_without_them(tmp_path):
    config = LlamaConfig(
        hidden_size=4096, intermediate_size=14336, num_hidden_layers=8, num_attention_heads=32, num_key_value_heads=8,
        vocab_size=128256, architectures=["LlamaForCausalLM"],
    )  # fmt: skip
    config.save_pretrained(tmp_path)
    word_tokenizer("gpt2").save_pretrained(tmp_path)
    model = {"base": str(tmp_path), "dtype": "bf16"}
    recipe = check(
        DOCUMENT
        | {"model": model, "objective": OBJECTIVES["dialogue"], "strategies": [{"kind": "lora", "rank": 16}]}
        | {"execution": {"device": "cpu", "precision": "bf16"}}
    )
    ids = Ragged.from_lists([[7] * 512] * 16)
    need = memory_need(recipe, tmp_path, [], Examples(ids, ids, aligned=True))
    assert need.weights == pytest.approx(2.8e9 * 2 + 10.5e6 * 4, rel=0.01)
    assert need.gradients == need.optimizer / 2 == 10_485_760 * 4
    assert 6e9 < need.activations < 9e9


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_a_quantised_base_is_planned_as_it_is(tmp_path, kind):
    folder = tmp_path / "base"
    config = LlamaConfig(
        hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2, vocab_size=300
    )
    word_tokenizer("gpt2").save_pretrained(folder)
    LlamaForCausalLM(config).save_pretrained(folder)
    recipe = check(
        DOCUMENT
        | {"model": {"base": str(folder), "quantization": {"kind": kind}}, "objective": OBJECTIVES["dialogue"]}
        | {"strategies": [{"kind": "lora", "rank": 2}]}
    )
    ids = Ragged.from_lists([[7] * 16] * 4)
    need = memory_need(recipe, folder, [], Examples(ids, ids, aligned=True))
    (initial := tmp_path / "initial").mkdir()
    quantization = recipe.model.quantization
    write_initial(recipe.objective, recipe.strategies, folder, [], 0, initial, quantization=quantization)
    model, head = load_initial(folder, initial)
    freeze_and_resolve(model, head, recipe.strategies, 1e-4, 0.0)
    assert need.weights == pytest.approx(bytes_of(model)[0], rel=0.02)
    assert need.gradients == bytes_of(model)[1]


def test_a_plan_compares_it_with_the_free_memory(document, tmp_path, monkeypatch):
    path = tmp_path / "moods.yaml"
    path.write_text(json.dumps(document))  # every JSON document is a YAML document

    def plan(*options):
        return CliRunner().invoke(app, ["plan", str(path), "--memory", *options])

    early = plan()
    assert early.exit_code == 2
    assert "Start a run: it encodes the data first" in " ".join(early.output.split())
    steps.prepare(check(document))
    shown = plan().output
    assert [line.split()[0] for line in shown.splitlines()[-5:]] == [*MemoryNeed._fields, "memory"]
    assert json.loads(plan("--json").output)["memory"]["need"]["gradients"] > 0
    monkeypatch.setattr(plan_memory, "_free_memory", lambda device, processes: 1000)
    assert "This does not fit: train less of the model" in plan().output.splitlines()[-1]
    hints = {"auto": "A copy does not fit, so the training divides", "none": "set execution.sharding to full"}
    for sharding, hint in hints.items():
        shown = plan("execution.processes=2", f"execution.sharding={sharding}").output
        assert hint in " ".join(shown.split())


def test_each_process_of_a_divided_training_needs_its_part(document):
    data = steps.prepare(check(document))
    base, shards = steps.fetch_base(check(document)).folder, data.folder.parents[1] / "shard"
    train = load_split(data.folder, shards, "train", check(document).objective)

    def need(**execution):
        recipe = check(document | {"execution": document["execution"] | execution})
        return memory_need(recipe, base, train.labels, train.encoded)

    whole, copy, part = need(), need(processes=2), need(processes=2, sharding="full")
    assert copy == whole
    assert (part.optimizer, part.gradients) == (whole.optimizer // 2, whole.gradients // 2)
    assert whole.weights / 2 < part.weights < whole.weights * 1.5  # its part, and what it gathers of a tiny model
    assert part.activations == whole.activations


@pytest.mark.parametrize(
    ("need", "strategy", "hint"),
    [
        (MemoryNeed(1, 1, 2, 9), "full", "set training.gradient_checkpointing to true"),
        (MemoryNeed(9, 1, 2, None), "lora", "set model.dtype to bf16"),
        (MemoryNeed(4, 4, 8, 1), "full", "train less of the model, with the strategy lora"),
    ],
)
def test_the_hint_is_about_the_largest_part(document, need, strategy, hint):
    document["strategies"] = [{"kind": strategy}]
    assert hint in plan_memory._hint(check(document), need)
