"""Which parameters each strategy trains, on a model of two layers. `pytest tests/strategies`."""

import copy

import pytest
from pydantic import ValidationError

from pipeline_lib.models.parameter_depth import parameter_infos
from pipeline_lib.objectives import TextClassification
from pipeline_lib.strategies import Full, LayerwiseLR, LoRA, Partial, SoftPrompt
from pipeline_lib.training.parameters import freeze_and_resolve, groups


@pytest.fixture(scope="module")
def model_and_head(tiny_bert):
    return TextClassification(kind="text_classification").model(str(tiny_bert), ["a", "b"])


def trained(model_and_head, *strategies):
    model, head = model_and_head
    return {row.name for row in freeze_and_resolve(model, head, strategies, 1e-3, 0.01) if row.trained}


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


def thawed(model_and_head, strategy):
    """By depth, the first epoch in which it is trained."""
    parameters = [place for place in parameter_infos(*model_and_head).values() if strategy.is_trainable(place)]
    return {place.depth: next(e for e in range(9) if strategy.is_unfrozen(place, e)) for place in parameters}


def test_gradual_thaws_one_layer_more_at_each_epoch(model_and_head):
    gradual = Partial(kind="partial", last_layers=3, gradual=True)
    assert thawed(model_and_head, gradual) == {3: 0, 2: 1, 1: 2, 0: 3}
    later = Partial(kind="partial", last_layers=1, gradual=True, start_epoch=2)
    assert thawed(model_and_head, later) == {3: 2, 2: 3}


def test_all_at_once_waits_for_its_first_epoch(model_and_head):
    assert thawed(model_and_head, Full(kind="full", start_epoch=1)) == {0: 1, 1: 1, 2: 1, 3: 1}
    assert thawed(model_and_head, Partial(kind="partial", last_layers=1)) == {3: 0, 2: 0}


def test_gradual_needs_layers():
    with pytest.raises(ValidationError, match="gradual requires last_layers, which is 0. Set last_layers"):
        Partial(kind="partial", gradual=True, biases=True)


@pytest.mark.parametrize(
    ("strategies", "expected"),
    [
        ([Partial(kind="partial")], 100.0),
        ([Partial(kind="partial", biases=True)], 20.0),
        ([Partial(kind="partial", last_layers=1)], 1.0),
        ([LoRA(kind="lora", rate=4.0), SoftPrompt(kind="prompt", rate=8.0)], 4.0),
        ([LayerwiseLR(kind="layerwise_lr", decay=0.5), LoRA(kind="lora", rate=4.0)], 4.0),
        ([Partial(kind="partial"), Full(kind="full", start_epoch=1)], 1.0),
    ],
)
def test_the_head_learns_as_fast_as_the_slowest_strategy_would_have_it(model_and_head, strategies, expected):
    table = {row.name: row for row in freeze_and_resolve(*model_and_head, strategies, 1.0, 0.0)}
    assert table["classifier.weight"].learning_rate == expected


def test_depth_counts_from_the_embeddings_to_the_head(model_and_head):
    depth = {name: place.depth for name, place in parameter_infos(*model_and_head).items()}
    assert depth["bert.embeddings.word_embeddings.weight"] == 0
    assert depth["bert.encoder.layer.0.output.dense.weight"] == 1
    assert depth["bert.encoder.layer.1.output.dense.weight"] == 2
    assert depth["bert.pooler.dense.weight"] == depth["classifier.weight"] == 3


def test_an_encoder_decoder_is_numbered_through():
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=2, num_decoder_layers=2, num_heads=2)
    model = T5ForConditionalGeneration(config)
    depth = {name: place.depth for name, place in parameter_infos(model, set()).items()}
    assert depth["shared.weight"] == 0
    assert depth["encoder.block.1.layer.0.SelfAttention.q.weight"] == 2
    assert depth["decoder.block.0.layer.0.SelfAttention.q.weight"] == 3
    assert depth["encoder.final_layer_norm.weight"] == 2
    assert depth["decoder.final_layer_norm.weight"] == 5


def test_a_head_with_numbers_has_no_layers(model_and_head):
    from torch import nn

    model, _ = model_and_head
    model = copy.deepcopy(model)
    width = model.config.hidden_size
    model.classifier = nn.Sequential(*[nn.Linear(width, width) for _ in range(5)])
    parameters = parameter_infos(
        model, {f"classifier.{index}.{part}" for index in range(5) for part in ("weight", "bias")}
    )
    assert (parameters["classifier.4.weight"].depth, parameters["classifier.4.weight"].layers) == (3, 2)


def test_the_output_of_a_pythia_is_above_its_layers():
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    config = GPTNeoXConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, tie_word_embeddings=False
    )
    depth = {name: place.depth for name, place in parameter_infos(GPTNeoXForCausalLM(config), set()).items()}
    assert depth["gpt_neox.embed_in.weight"] == 0
    assert depth["gpt_neox.layers.0.attention.dense.weight"] == 1
    assert depth["gpt_neox.final_layer_norm.weight"] == depth["lm_head.weight"] == 2


def test_a_decoder_is_numbered_from_one():
    from transformers import GPT2Config, GPT2ForSequenceClassification

    model = GPT2ForSequenceClassification(GPT2Config(vocab_size=20, n_embd=8, n_layer=2, n_head=2, n_positions=16))
    depth = {name: place.depth for name, place in parameter_infos(model, {"score.weight"}).items()}
    assert (depth["transformer.wte.weight"], depth["transformer.h.0.attn.c_attn.weight"]) == (0, 1)
    assert depth["transformer.ln_f.weight"] == depth["score.weight"] == 3


def test_there_is_a_group_for_each_rate_and_decay(model_and_head):
    model, head = model_and_head
    table = freeze_and_resolve(model, head, [Partial(kind="partial", rate=1.0)], 1e-3, 0.01)
    found = groups(model, table, head)
    wanted = [(1e-3, 0.0, 1), (1e-3, 0.01, 1)]
    assert sorted((g.learning_rate, g.weight_decay, len(g.parameters)) for g in found) == wanted
