"""A quantised base takes a fraction of the memory, and trains as its values in fp32 do.

pytest tests/models/test_quantized_weights.py
"""

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import word_tokenizer
from contract import STRATEGIES, Ready
from families import tokenizer_kind, write_family
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.building import load_trained, write_trained
from pipeline_lib.models.quantized_weights import dequantize, quantized_modules

KINDS = ("nf4", "int8")


def storage_bytes(module):
    """Bytes of a quantised layer's matrix with everything that is needed to read it."""
    weight = module.weight
    state = getattr(weight, "quant_state", None)
    tensors = [weight] + ([weight.SCB] if state is None else [state.absmax, state.code])
    if state is not None and state.nested:
        tensors += [state.state2.absmax, state.state2.code, state.offset]
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A Llama of two layers that are wide enough for scales not to count."""
    folder = tmp_path_factory.mktemp("wide")
    shape = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4, "head_dim": 64}
    write_family("llama", word_tokenizer("gpt2"), folder, **shape)
    return folder


@pytest.mark.parametrize(("kind", "share"), [("nf4", 0.14), ("int8", 0.26)])
def test_the_matrices_in_blocks_take_a_fraction_of_the_memory(wide, tmp_path, kind, share):
    it = Ready(wide, "dialogue", "lora", tmp_path, quantization=kind)
    layers = [module for _, module in quantized_modules(it.model)]
    whole = sum(4 * layer.in_features * layer.out_features for layer in layers)
    assert len(layers) == 14
    assert sum(map(storage_bytes, layers)) <= share * whole
    others = {name for name, weight in it.model.named_parameters() if weight.is_floating_point()}
    assert {"model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"} <= others


CASES = [
    ("bert", "classification", "parallel"),
    ("bert", "masked", "biases"),
    ("gpt2", "causal", "lora"),
    ("llama", "dialogue", "lora"),
    ("llama", "pairs", "deep prompt"),
    ("t5", "seq2seq", "ia3"),
]


def steps_of(base, objective, strategy, folder, quantization, precision="fp32"):
    """Records, trained weights and model after three steps with dropout."""
    folder.mkdir()
    it = Ready(base, objective, strategy, folder, 0.1, "auto", precision, quantization)
    records = [it.loop.stepper.step(np.arange(it.loop.train.groups), step, 1.0) for step in range(3)]
    return records, {name: it.model.get_parameter(name).detach() for name in it.trained}, it


def with_values_of(base, model, folder):
    """A copy of a base whose matrices have the values that a quantised model stands for."""
    shutil.copytree(base, folder)
    file = folder / "model.safetensors"
    weights = load_file(file)
    for name, module in quantized_modules(model):
        key = next(key for key in weights if f"{name.replace('.base_layer', '')}.weight".endswith(key))
        matrix = dequantize(module, torch.float32)
        weights[key] = (matrix if module.source_cls is torch.nn.Linear else matrix.T).contiguous()
    save_file(weights, file, {"format": "pt"})
    return folder


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("family", "objective", "strategy"), CASES)
def test_training_is_that_of_the_values_in_fp32(tiny, tmp_path, family, objective, strategy, kind):
    records, weights, it = steps_of(tiny[family], objective, strategy, tmp_path / "a", kind)
    base = with_values_of(tiny[family], it.model, tmp_path / "base")
    again, others, _ = steps_of(base, objective, strategy, tmp_path / "b", None)
    assert again == records
    for name, weight in weights.items():
        torch.testing.assert_close(weight, others[name], msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_training_under_autocast_ends_with_the_same_bytes_each_time(tiny, tmp_path, kind):
    records, weights, _ = steps_of(tiny["llama"], "dialogue", "lora", tmp_path / "a", kind, "bf16")
    again, others, _ = steps_of(tiny["llama"], "dialogue", "lora", tmp_path / "b", kind, "bf16")
    assert again == records
    assert all(torch.equal(weight, others[name]) for name, weight in weights.items())
    assert {weight.dtype for weight in weights.values()} == {torch.float32}


@pytest.mark.parametrize("kind", KINDS)
def test_a_trained_model_is_served_from_the_same_quantised_base(tiny, tmp_path, kind):
    _, _, it = steps_of(tiny["llama"], "dialogue", "lora", tmp_path / "a", kind)
    write_trained(it.model, it.trained, it.initial, "fp32", tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert "quantization_config" not in config
    loaded = load_trained(tmp_path / "model", tiny["llama"])
    matrices = dict(quantized_modules(it.model))
    for name, module in quantized_modules(loaded):
        assert torch.equal(module.weight, matrices.pop(name).weight)
    assert not matrices
    ids = torch.arange(4, 12)[None]
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, it.model.eval()(ids).logits)
        plain = load_trained(tmp_path / "model", tiny["llama"], plain=True)
        assert not torch.equal(plain(ids).logits, loaded(ids).logits)


def test_a_trained_matrix_is_served_in_fp32_beside_a_base_in_bf16(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(STRATEGIES, "embeddings", [{"kind": "partial", "patterns": ["*embed_tokens*"]}])
    base = tmp_path / "base"
    AutoModelForCausalLM.from_pretrained(tiny["llama"], dtype=torch.bfloat16).save_pretrained(base)
    word_tokenizer("llama").save_pretrained(base)
    _, weights, it = steps_of(base, "dialogue", "embeddings", tmp_path / "a", "nf4")
    write_trained(it.model, it.trained, it.initial, "fp32", tmp_path / "model")
    loaded = load_trained(tmp_path / "model", base)
    assert loaded.get_output_embeddings().weight.dtype == torch.bfloat16
    assert list(weights) == ["model.embed_tokens.weight"]
    assert torch.equal(loaded.get_input_embeddings().weight, weights["model.embed_tokens.weight"])


@pytest.mark.parametrize(("method", "kind"), [("bitsandbytes", None), ("gptq", "nf4")])
def test_a_base_that_is_quantised_already_is_refused(tiny, tmp_path, method, kind):
    base = tmp_path / "base"
    shutil.copytree(tiny["llama"], base)
    config = json.loads((base / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method, "bits": 4}
    (base / "config.json").write_text(json.dumps(config))
    with pytest.raises(RecipeError, match=rf"has files that are quantised already \({method}\)"):
        Ready(base, "dialogue", "lora", tmp_path, quantization=kind)


def test_a_base_of_another_size_than_its_configuration_is_refused(tiny, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(tiny["llama"], base)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"intermediate_size": 96}))
    with pytest.raises(RecipeError, match="with a different shape than in config.json"):
        Ready(base, "dialogue", "lora", tmp_path, quantization="nf4")


@pytest.mark.parametrize("family", ["falcon", "squeezebert"])
def test_a_family_without_plain_linear_layers_is_refused(tmp_path, family):
    write_family(family, word_tokenizer(tokenizer_kind(family)), tmp_path / "base")
    with pytest.raises(RecipeError, match=f"finds no plain linear layer in the blocks of the family {family}"):
        Ready(tmp_path / "base", "classification", "head", tmp_path, quantization="nf4")
