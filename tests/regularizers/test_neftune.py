"""Noise on the embeddings: how large, and in training alone. `pytest tests/regularizers/test_neftune.py`."""

import pytest
import torch
import transformers as hf
from torch import nn

from pipeline_lib.regularizers import Neftune

SMALL = {"vocab_size": 20, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]])
FAMILIES = {
    "bert": lambda: hf.BertForMaskedLM(
        hf.BertConfig(**SMALL, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    ),
    "gpt2": lambda: hf.GPT2LMHeadModel(hf.GPT2Config(**SMALL, n_embd=8, n_layer=1, n_head=2, n_positions=16)),
    "llama": lambda: hf.LlamaForCausalLM(
        hf.LlamaConfig(**SMALL, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    ),
    "t5": lambda: hf.T5ForConditionalGeneration(
        hf.T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0)
    ),
    "bart": lambda: hf.BartForConditionalGeneration(
        hf.BartConfig(
            **SMALL,
            **{"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "max_position_embeddings": 16},
            **{"encoder_attention_heads": 2, "decoder_attention_heads": 2},
            **{"encoder_ffn_dim": 8, "decoder_ffn_dim": 8},
        )
    ),
}


def tiny_model(family):
    """A tiny model without dropout: in training it gives what it gives in evaluation."""
    torch.manual_seed(0)
    model = FAMILIES[family]()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "dropout", None), float):  # BART's
            module.dropout = 0.0
    return model


def logits(model):
    return model(input_ids=IDS, **({"decoder_input_ids": IDS} if model.config.is_encoder_decoder else {})).logits


def noise(alpha, ids):
    """What is added for ids, with embeddings of size 16."""
    model = hf.BertModel(
        hf.BertConfig(**SMALL, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    )
    Neftune(kind="neftune", alpha=alpha).prepare(model)
    table = model.train().get_input_embeddings()
    return table(ids) - table.weight[ids]


def test_the_bound_is_alpha_by_the_root_of_length_times_size():
    torch.manual_seed(0)
    added = noise(10.0, torch.randint(20, (500, 4)))  # 10 / sqrt(4 * 16) = 1.25
    assert 1.24 < added.abs().max() <= 1.25 + 1e-6
    assert added.mean().item() == pytest.approx(0, abs=0.02)
    assert added.var().item() == pytest.approx(1.25**2 / 3, rel=0.02)  # a uniform one


def test_longer_inputs_get_less_of_it_by_token():
    torch.manual_seed(0)
    assert noise(10.0, torch.randint(20, (50, 100))).abs().max().item() == pytest.approx(0.25, rel=0.01)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gets_it_in_training_alone(family):
    model = tiny_model(family)
    plain = logits(model.eval())
    assert torch.equal(logits(model.train()), plain)
    Neftune(kind="neftune").prepare(model)
    assert torch.equal(logits(model.eval()), plain)
    assert not torch.allclose(logits(model.train()), plain, atol=1e-4)
    assert not torch.equal(logits(model), logits(model))  # new noise in each pass


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_both_sides_of_an_encoder_decoder_get_it_once(family):
    model = tiny_model(family).train()
    Neftune(kind="neftune").prepare(model)
    inner = model.model if family == "bart" else model
    for side in (inner.encoder, inner.decoder):
        assert len(side.embed_tokens._forward_hooks) == 1
        assert not torch.equal(side.embed_tokens(IDS), side.embed_tokens(IDS))


def test_embeddings_learn_as_before():
    model = tiny_model("gpt2").train()
    Neftune(kind="neftune").prepare(model)
    table = model.get_input_embeddings()
    table(torch.tensor([[3, 3]])).sum().backward()
    assert table.weight.grad[3].tolist() == [2.0] * 8


def test_a_table_that_a_strategy_has_wrapped_gets_it():
    class Wrapped(nn.Module):
        def __init__(self, base_layer):
            super().__init__()
            self.base_layer = base_layer

        def forward(self, ids):
            return self.base_layer(ids)

    model = tiny_model("gpt2")
    model.set_input_embeddings(Wrapped(model.get_input_embeddings()))
    Neftune(kind="neftune").prepare(model)
    assert not torch.equal(logits(model.train()), logits(model.eval()))
