"""Low-rank updates, against their papers' equations computed in plain torch. `pytest tests/strategies`."""

import copy
import warnings

import pytest
import torch

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.parameter_depth import parameter_infos
from pipeline_lib.strategies import Bottleneck, LoRA, Partial

IDS = torch.tensor([[1, 7, 8, 9, 2], [1, 11, 12, 13, 2]])


def lora(**fields):
    return LoRA(kind="lora", **{"rank": 2, "alpha": 6, **fields})


def run(model):
    more = {"decoder_input_ids": IDS} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model(input_ids=IDS, **more).logits


def inject(strategy, model, tokenizer):
    """The strategy's modules with random values; PEFT must have nothing to warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        strategy.inject(model, tokenizer)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, place in parameter_infos(model, set()).items():
            if strategy.is_trainable(place):
                model.get_parameter(name).add_(torch.randn_like(model.get_parameter(name)) / 2)
    return model


def matrices(wrapped):
    return wrapped.lora_A.default.weight, wrapped.lora_B.default.weight


@pytest.mark.parametrize(
    ("rank", "rslora", "scale"), [(8, False, 2.0), (8, True, 2.0), (32, False, 0.5), (32, True, 1.0)]
)
def test_without_alpha_rank_8_is_scaled_by_2_and_rslora_spares_high_ranks(make, tokenizer, rank, rslora, scale):
    model = make("bert")
    inject(LoRA(kind="lora", rank=rank, rslora=rslora), model, tokenizer)
    assert model.bert.encoder.layer[0].attention.self.query.scaling == {"default": pytest.approx(scale)}


@pytest.mark.parametrize(("rslora", "scale"), [(False, 6 / 2), (True, 6 / 2**0.5)])
def test_it_is_the_equation(make, tokenizer, rslora, scale):
    model = make("bert")
    plain = copy.deepcopy(model.bert.encoder.layer[1].attention.self.query)
    inject(lora(rslora=rslora), model, tokenizer)
    wrapped, x = model.bert.encoder.layer[1].attention.self.query, torch.randn(3, 16)
    a, b = matrices(wrapped)
    torch.testing.assert_close(wrapped(x), plain(x) + scale * x @ a.T @ b.T)


def test_dora_is_the_equation(make, tokenizer):
    model = make("llama")
    weight = model.model.layers[0].self_attn.q_proj.weight.clone()
    inject(lora(dora=True), model, tokenizer)
    wrapped, x = model.model.layers[0].self_attn.q_proj, torch.randn(3, 16)
    a, b = matrices(wrapped)
    moved = weight + 3 * b @ a
    lengths = wrapped.lora_magnitude_vector.default.weight
    torch.testing.assert_close(wrapped(x), x @ (lengths[:, None] * moved / moved.norm(dim=1, keepdim=True)).T)


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2", "llama", "t5"])
def test_it_starts_as_the_base_and_merges_without_a_change(make, tokenizer, family, dora):
    model, strategy = make(family), lora(dora=dora)
    before = run(model)
    strategy.inject(copied := copy.deepcopy(model), tokenizer)
    torch.testing.assert_close(run(copied), before, atol=1e-5, rtol=1e-5)
    apart = run(inject(strategy, model, tokenizer))
    strategy.merge(model)
    torch.testing.assert_close(run(model), apart, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(apart, before, atol=1e-2)


def test_only_base_layer_comes_into_the_bases_names(make, tokenizer):
    model = make("gpt2")
    names = {name for name, _ in model.named_parameters()}
    lora().inject(model, tokenizer)
    after = parameter_infos(model, set())
    assert names == {place.plain for place in after.values() if not lora().is_trainable(place)}
    assert after["transformer.h.1.attn.c_attn.base_layer.weight"].depth == 2
    assert after["transformer.h.0.attn.c_attn.lora_B.default.weight"].depth == 1


@pytest.mark.parametrize(
    ("family", "ends"),
    [
        ("gpt2", "attn.c_attn attn.c_proj mlp.c_fc mlp.c_proj"),
        (
            "mpnet",
            "attention.attn.q attention.attn.k attention.attn.v attention.attn.o intermediate.dense output.dense",
        ),
    ],
)
def test_without_targets_all_projections_of_the_blocks_are_updated(make, tokenizer, family, ends):
    model = make(family)
    lora().inject(model, tokenizer)
    own = {name for name, place in parameter_infos(model, set()).items() if lora().is_trainable(place)}
    blocks = {"gpt2": "transformer.h", "mpnet": "encoder.layer"}[family]
    assert own == {f"{blocks}.{i}.{end}.lora_{m}.default.weight" for i in (0, 1) for end in ends.split() for m in "AB"}


def test_targets_by_the_end_of_their_names(make, tokenizer):
    model = make("gpt2")
    lora(targets=["mlp.c_proj"]).inject(model, tokenizer)
    own = {name for name, place in parameter_infos(model, set()).items() if lora().is_trainable(place)}
    assert own == {f"transformer.h.{i}.mlp.c_proj.lora_{m}.default.weight" for i in (0, 1) for m in "AB"}


@pytest.mark.parametrize(
    ("family", "fields", "message"),
    [
        ("gpt2", {"targets": ["c_attn", "query"]}, "no weight named 'query'.*from c_attn, c_fc, c_proj"),
        ("bert", {"targets": ["LayerNorm"]}, "no weight named 'LayerNorm'.*from dense, key, query, value"),
    ],
)
def test_targets_that_are_not_there_are_refused(make, tokenizer, family, fields, message):
    with pytest.raises(RecipeError, match=message):
        lora(**fields).inject(make(family), tokenizer)


def test_patterns_still_name_what_is_wrapped(make, tokenizer):
    model = make("bert")
    lora().inject(model, tokenizer)
    partial = Partial(kind="partial", patterns=["*.query.weight"])
    named = {name for name, place in parameter_infos(model, set()).items() if partial.is_trainable(place)}
    assert named == {f"bert.encoder.layer.{i}.attention.self.query.base_layer.weight" for i in (0, 1)}


@pytest.mark.parametrize("first", ["lora", "bottleneck"])
def test_merging_beside_an_adapter_of_the_same_weight_changes_nothing(make, tokenizer, first):
    model = make("gpt2")
    strategies = [lora(targets=["c_proj"]), Bottleneck(kind="bottleneck", size=4)]
    for strategy in strategies if first == "lora" else reversed(strategies):
        inject(strategy, model, tokenizer)
    apart = run(model)
    for strategy in strategies:
        strategy.merge(model)
    torch.testing.assert_close(run(model), apart, atol=1e-3, rtol=1e-3)
