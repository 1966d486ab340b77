"""Which parameters each strategy trains, on a model of two layers. `pytest tests/strategies`."""

import pytest

from pipeline_lib.models.places import places
from pipeline_lib.objectives import TextClassification
from pipeline_lib.strategies import Full, Partial
from pipeline_lib.training.parameters import optimizer, thaw


@pytest.fixture(scope="module")
def model_and_head(tiny_bert):
    return TextClassification(kind="text_classification").model(str(tiny_bert), ["a", "b"])


def trained(model_and_head, *strategies):
    model, head = model_and_head
    return {row.name for row in thaw(model, head, strategies, 1e-3, 0.01) if row.trained}


HEAD = {"classifier.weight", "classifier.bias"}


def test_the_head_is_what_the_base_lacks(model_and_head):
    assert model_and_head[1] == HEAD


def test_full_trains_everything(model_and_head):
    assert trained(model_and_head, Full(kind="full")) == {name for name, _ in model_and_head[0].named_parameters()}


def test_partial_alone_is_the_head(model_and_head):
    assert trained(model_and_head, Partial(kind="partial")) == HEAD


def test_the_last_layer_comes_with_all_above_it(model_and_head):
    names = trained(model_and_head, Partial(kind="partial", last_layers=1))
    assert {name for name in names if "layer.0" in name or "embeddings" in name} == set()
    assert names > HEAD | {"bert.pooler.dense.weight", "bert.encoder.layer.1.output.dense.weight"}


def test_by_pattern(model_and_head):
    names = trained(model_and_head, Partial(kind="partial", patterns=["*attention.self.query*"]))
    assert names - HEAD == {
        f"bert.encoder.layer.{layer}.attention.self.query.{part}" for layer in (0, 1) for part in ("weight", "bias")
    }


def test_biases_only(model_and_head):
    names = trained(model_and_head, Partial(kind="partial", biases=True)) - HEAD
    assert names
    assert all(name.endswith("bias") for name in names)


def test_depth_counts_from_the_embeddings_to_the_head(model_and_head):
    depth = {name: place.depth for name, place in places(*model_and_head).items()}
    assert depth["bert.embeddings.word_embeddings.weight"] == 0
    assert depth["bert.encoder.layer.0.output.dense.weight"] == 1
    assert depth["bert.encoder.layer.1.output.dense.weight"] == 2
    assert depth["bert.pooler.dense.weight"] == depth["classifier.weight"] == 3


def test_an_encoder_decoder_is_numbered_through():
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=2, num_decoder_layers=2, num_heads=2)
    model = T5ForConditionalGeneration(config)
    depth = {name: place.depth for name, place in places(model, set()).items()}
    assert depth["shared.weight"] == 0
    assert depth["encoder.block.1.layer.0.SelfAttention.q.weight"] == 2
    assert depth["decoder.block.0.layer.0.SelfAttention.q.weight"] == 3
    assert depth["decoder.final_layer_norm.weight"] == 5


def test_a_decoder_is_numbered_from_one():
    from transformers import GPT2Config, GPT2ForSequenceClassification

    model = GPT2ForSequenceClassification(GPT2Config(vocab_size=20, n_embd=8, n_layer=2, n_head=2, n_positions=16))
    depth = {name: place.depth for name, place in places(model, {"score.weight"}).items()}
    assert (depth["transformer.wte.weight"], depth["transformer.h.0.attn.c_attn.weight"]) == (0, 1)
    assert depth["transformer.ln_f.weight"] == depth["score.weight"] == 3


def test_the_optimizer_has_a_group_for_each_rate_and_decay(model_and_head):
    model, head = model_and_head
    table = thaw(model, head, [Partial(kind="partial")], 1e-3, 0.01)
    groups = optimizer(model, table).param_groups
    assert sorted((g["peak"], g["weight_decay"], len(g["params"])) for g in groups) == [(1e-3, 0.0, 1), (1e-3, 0.01, 1)]
