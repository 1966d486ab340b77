"""The recipe's dropout reaches every family, and acts there. `pytest tests/regularizers/test_dropout.py`."""

import pytest
import torch
import transformers as hf
from torch import nn

from pipeline_lib.errors import RecipeError
from pipeline_lib.regularizers import Dropout

IDS = torch.arange(3, 15).reshape(2, 6)
SHAPE = {"vocab_size": 20, "pad_token_id": 0, "num_labels": 2}
BLOCK = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
SIDES = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
FAMILIES = {
    "bert": hf.BertConfig(**SHAPE, **BLOCK),
    "roberta": hf.RobertaConfig(**SHAPE, **BLOCK, max_position_embeddings=32),
    "albert": hf.AlbertConfig(**SHAPE, **BLOCK, embedding_size=8),
    "electra": hf.ElectraConfig(**SHAPE, **BLOCK, embedding_size=8),
    "deberta": hf.DebertaV2Config(**SHAPE, **BLOCK),
    "mpnet": hf.MPNetConfig(**SHAPE, **BLOCK, max_position_embeddings=32),
    "distilbert": hf.DistilBertConfig(**SHAPE, dim=8, n_layers=2, n_heads=2, hidden_dim=16),
    "gpt2": hf.GPT2Config(**SHAPE, n_embd=8, n_layer=2, n_head=2, n_positions=32),
    "opt": hf.OPTConfig(
        **SHAPE, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, ffn_dim=16, word_embed_proj_dim=8
    ),
    "gpt_neox": hf.GPTNeoXConfig(**SHAPE, **BLOCK),
    "llama": hf.LlamaConfig(**SHAPE, **BLOCK),
    "bart": hf.BartConfig(**SHAPE, **SIDES, d_model=8, encoder_ffn_dim=16, decoder_ffn_dim=16, eos_token_id=14),
    "t5": hf.T5Config(
        **SHAPE,
        **{"decoder_start_token_id": 0, "eos_token_id": 14},
        d_model=8,
        d_kv=4,
        d_ff=16,
        num_layers=2,
        num_heads=2,
    ),
}


def configured(family, **fields):
    """A tiny classifier made with the recipe's dropout in its configuration."""
    config = type(FAMILIES[family])(**FAMILIES[family].to_diff_dict())
    config.update(Dropout(kind="dropout", **fields).configure(config))
    torch.manual_seed(0)
    return hf.AutoModelForSequenceClassification.from_config(config)


def logits(model):
    ids = IDS.clone()
    ids[:, -1] = 14  # BART and T5 classify by the end mark
    with torch.no_grad():
        return model(input_ids=ids).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_zero_turns_all_dropout_off(family):
    model = configured(family, value=0.0)
    assert torch.allclose(logits(model.train()), logits(model.eval()), atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_high_rate_acts_in_training_alone(family):
    model = configured(family, value=0.5)
    assert not torch.allclose(logits(model.train()), logits(model), atol=1e-6)
    assert torch.equal(logits(model.eval()), logits(model))


def test_a_pretrained_model_gets_the_rates(tiny_bert):
    config = hf.AutoConfig.from_pretrained(tiny_bert)
    values = Dropout(kind="dropout", value=0.25, attention=0.35).configure(config)
    assert values == {
        "hidden_dropout_prob": 0.25,
        "classifier_dropout": 0.25,
        "attention_probs_dropout_prob": 0.35,
    }
    model = hf.AutoModelForSequenceClassification.from_pretrained(tiny_bert, **values)
    rates = {name: module.p for name, module in model.named_modules() if isinstance(module, nn.Dropout)}
    assert rates["dropout"] == rates["bert.embeddings.dropout"] == 0.25
    assert {rate for name, rate in rates.items() if name.endswith("attention.self.dropout")} == {0.35}
    assert {*rates.values()} == {0.25, 0.35}


def test_a_unit_is_zero_with_the_probability_and_scaled_otherwise():
    layer = configured("bert", value=0.25).bert.embeddings.dropout.train()
    torch.manual_seed(0)
    units = layer(torch.ones(100_000))
    assert units.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert (units == 0).float().mean().item() == pytest.approx(0.25, abs=0.005)


def test_attention_alone():
    assert Dropout(kind="dropout", value=0.2, attention=0.0).configure(FAMILIES["gpt2"]) == {
        "attn_pdrop": 0.0,
        "resid_pdrop": 0.2,
        "embd_pdrop": 0.2,
        "summary_first_dropout": 0.2,
    }


def test_a_family_without_dropout_is_refused():
    with pytest.raises(RecipeError, match="the family mamba has no dropout") as caught:
        Dropout(kind="dropout").configure(hf.MambaConfig())
    assert caught.value.field == "regularizers"


def test_attention_is_refused_where_the_family_has_one_rate_for_all():
    with pytest.raises(RecipeError, match="family t5 has no separate rate"):
        Dropout(kind="dropout", attention=0.2).configure(FAMILIES["t5"])
