"""A base in half precision trains as in fp32, from half the memory. `pytest tests/models/test_half_weights.py`."""

import shutil

import numpy as np
import pytest
import torch
from conftest import word_tokenizer
from contract import Ready
from families import tokenizer_kind, write_family
from safetensors.torch import load_file, save_file

from pipeline_lib.models.building import load_initial, load_trained, write_trained
from pipeline_lib.models.half_weights import half_format

CASES = [
    ("bert", "classification", "parallel"),
    ("bert", "masked", "lora"),
    ("gpt2", "causal", "ia3"),
    ("gpt2", "dialogue", "deep prompt"),
    ("llama", "dialogue", "lora"),
    ("llama", "dialogue", "dora"),
    ("llama", "pairs", "last layer"),
    ("t5", "seq2seq", "lora"),
    ("bert", "masked", "biases"),
]


def in_half(base, folder, dtype=torch.bfloat16):
    """A copy of a base with all weights in half precision."""
    shutil.copytree(base, folder)
    file = folder / "model.safetensors"
    save_file({name: weight.to(dtype) for name, weight in load_file(file).items()}, file, {"format": "pt"})
    return folder


def trained(base, objective, strategy, folder, dtype, precision="fp32"):
    """Records, trained weights and model after three steps with dropout."""
    folder.mkdir()
    it = Ready(base, objective, strategy, folder, 0.1, dtype, precision)
    records = [it.loop.stepper.step(np.arange(it.loop.train.groups), step, 1.0) for step in range(3)]
    return records, {name: it.model.get_parameter(name).detach() for name in it.trained}, it


def halves(model):
    return {name for name, parameter in model.named_parameters() if parameter.dtype != torch.float32}


@pytest.mark.parametrize(("family", "objective", "strategy"), CASES)
def test_the_same_bytes_as_from_a_base_in_fp32(tiny, tmp_path, family, objective, strategy):
    base = in_half(tiny[family], tmp_path / "base")
    records, weights, plain = trained(base, objective, strategy, tmp_path / "a", "fp32")
    again, others, it = trained(base, objective, strategy, tmp_path / "b", "auto")
    assert not halves(plain.model)
    matrices = halves(it.model)
    assert matrices
    assert not matrices & it.trained
    sizes = {name: parameter.numel() for name, parameter in it.model.named_parameters()}
    assert strategy == "last layer" or sum(sizes[name] for name in matrices) > 0.7 * sum(
        sizes[name] for name in sizes if name not in it.trained
    )
    assert again == records
    assert others.keys() == weights.keys()
    for name, weight in weights.items():
        assert torch.equal(weight, others[name]), name


def test_the_same_bytes_under_autocast(tiny, tmp_path):
    base = in_half(tiny["llama"], tmp_path / "base")
    records, weights, _ = trained(base, "dialogue", "lora", tmp_path / "a", "fp32", "bf16")
    again, others, it = trained(base, "dialogue", "lora", tmp_path / "b", "auto", "bf16")
    assert halves(it.model)
    assert again == records
    assert all(torch.equal(weight, others[name]) for name, weight in weights.items())


@pytest.mark.parametrize("family", ["bloom", "gemma2", "gptj", "mixtral", "opt", "bart", "roberta"])
def test_other_families_train_as_from_fp32(tmp_path, family):
    write_family(family, word_tokenizer(tokenizer_kind(family)), tmp_path / "fp32")
    base = in_half(tmp_path / "fp32", tmp_path / "base")
    objective = {"bart": "seq2seq", "roberta": "masked"}.get(family, "causal")
    records, _, _ = trained(base, objective, "lora", tmp_path / "a", "fp32")
    again, _, it = trained(base, objective, "lora", tmp_path / "b", "auto")
    assert again == records
    assert halves(it.model)


def test_full_fine_tuning_is_in_fp32(tiny, tmp_path):
    base = in_half(tiny["gpt2"], tmp_path / "base")
    assert not halves(trained(base, "causal", "full", tmp_path / "a", "auto")[2].model)


def test_a_base_in_fp32_is_rounded_where_the_recipe_says_so(tiny, tmp_path):
    _, _, it = trained(tiny["llama"], "dialogue", "lora", tmp_path / "a", "bf16")
    rounded = in_half(tiny["llama"], tmp_path / "base")
    _, _, other = trained(rounded, "dialogue", "lora", tmp_path / "b", "auto")
    matrices = halves(it.model)
    assert matrices == halves(other.model)
    for name in matrices:
        assert torch.equal(it.model.get_parameter(name), other.model.get_parameter(name))
    write_trained(it.model, it.trained, it.initial, "fp32", tmp_path / "model")
    ids = torch.arange(4, 12)[None]
    with torch.no_grad():
        expected = it.model.eval()(ids).logits
        served = load_trained(tmp_path / "model", tiny["llama"])  # as it was in training
        assert halves(served) == matrices
        assert torch.equal(served(ids).logits, expected)
        merged = load_trained(tmp_path / "model", tiny["llama"], plain=True)
        assert not halves(merged)
        torch.testing.assert_close(merged(ids).logits, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("dtype", "expected"), [(torch.bfloat16, torch.bfloat16), (torch.float16, torch.float16), (torch.float32, None)]
)
def test_auto_is_the_format_of_the_files(tiny, tmp_path, dtype, expected):
    base = in_half(tiny["bert"], tmp_path / "base", dtype)
    assert half_format(base, "auto") == expected
    assert half_format(base, "fp32") is None
    assert half_format(base, "bf16") == torch.bfloat16


def test_files_with_matrices_in_several_formats_are_read_in_fp32(tiny, tmp_path):
    base = in_half(tiny["bert"], tmp_path / "base")
    weights = load_file(base / "model.safetensors")
    first = next(name for name, weight in weights.items() if weight.dim() > 1)
    save_file(weights | {first: weights[first].float()}, base / "model.safetensors", {"format": "pt"})
    assert half_format(base, "auto") is None


def test_a_new_head_is_drawn_in_fp32(tiny, tmp_path):
    base = in_half(tiny["bert"], tmp_path / "base")
    heads = []
    for dtype in ("fp32", "auto"):
        it = trained(base, "classification", "lora", tmp_path / dtype, dtype)[2]
        model, head = load_initial(base, it.initial, dtype=dtype)
        heads.append({name: model.get_parameter(name) for name in head})
    assert all(torch.equal(weight, heads[1][name]) for name, weight in heads[0].items())
