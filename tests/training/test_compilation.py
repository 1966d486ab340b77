"""Compiled layers compute the same, on GPUs only. `pytest tests/training/test_compilation.py`"""

import pytest
import torch
import transformers
from torch import nn

from pipeline_lib.errors import RecipeError
from pipeline_lib.recipe.execution import Execution
from pipeline_lib.training.compilation import compile_blocks
from pipeline_lib.training.device import accelerator


def small_llama():
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=50, **shape))


def test_compiled_blocks_give_the_same_outputs_and_gradients(monkeypatch):
    """Traced and differentiated as on a GPU, but run without generated kernels."""
    compiled, compile_module = small_llama(), nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self, **given: compile_module(self, backend="aot_eager", **given))
    compile_blocks(compiled)
    assert all(layer._compiled_call_impl for layer in compiled.model.layers)
    ids = torch.randint(4, 50, (2, 9))
    grads = []
    for model in (small_llama(), compiled):
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        grads.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, msg=name)


def test_patched_blocks_are_left_alone():
    model = small_llama()
    model.model.layers[0].forward = model.model.layers[0].forward
    compile_blocks(model)
    assert [layer._compiled_call_impl is not None for layer in model.model.layers] == [False, True]


def test_families_without_single_layers_are_refused():
    model = transformers.XLMWithLMHeadModel(transformers.XLMConfig(vocab_size=50, emb_dim=16, n_layers=1, n_heads=2))
    with pytest.raises(RecipeError, match=r"execution\.compile = True: is not supported by the family xlm"):
        compile_blocks(model)


def test_a_cpu_is_refused_in_one_sentence():
    with pytest.raises(RecipeError, match=r"execution\.compile = True: needs a GPU"):
        Execution(compile=True, device="cpu")
    if not torch.cuda.is_available():
        with pytest.raises(RecipeError, match=r"execution\.compile = True: needs a GPU"):
            accelerator(Execution(compile=True))
