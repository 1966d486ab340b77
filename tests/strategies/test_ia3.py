"""(IA)^3, against its equations computed in plain torch. `pytest tests/strategies`."""

import copy
import warnings

import pytest
import torch

from pipeline_lib.models.parameter_depth import parameter_infos
from pipeline_lib.strategies import IA3

IDS = torch.tensor([[1, 7, 8, 9, 2], [1, 11, 12, 13, 2]])
STRATEGY = IA3(kind="ia3")


def run(model):
    more = {"decoder_input_ids": IDS} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model(input_ids=IDS, **more).logits


def inject(model, tokenizer):
    """Random vectors; PEFT must have nothing to warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        STRATEGY.inject(model, tokenizer)
    torch.manual_seed(1)
    with torch.no_grad():
        for name in own(model):
            model.get_parameter(name).uniform_(0.5, 2.0)
    return model


def own(model):
    return {name for name, place in parameter_infos(model, set()).items() if STRATEGY.is_trainable(place)}


def test_it_scales_keys_values_and_what_the_feed_forward_is_about_to_project(make, tokenizer):
    model = make("bert")
    before = copy.deepcopy(model.bert.encoder.layer[0])
    inject(model, tokenizer)
    layer, x, inner = model.bert.encoder.layer[0], torch.randn(3, 16), torch.randn(3, 32)
    for part in ("key", "value"):
        wrapped, plain = getattr(layer.attention.self, part), getattr(before.attention.self, part)
        torch.testing.assert_close(wrapped(x), wrapped.ia3_l.default.flatten() * plain(x))
    dense = layer.output.dense
    torch.testing.assert_close(dense(inner), before.output.dense(dense.ia3_l.default.flatten() * inner))


def test_it_owns_three_vectors_a_layer_and_a_cross_attention_has_its_own_two(make, tokenizer):
    at = ("attention.self.key", "attention.self.value", "output.dense")
    assert own(inject(make("bert"), tokenizer)) == {
        f"bert.encoder.layer.{layer}.{part}.ia3_l.default" for layer in (0, 1) for part in at
    }
    assert len(own(inject(make("t5"), tokenizer))) == 2 * 3 + 2 * 5


@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2", "llama", "t5"])
def test_it_starts_as_the_base_and_merges_without_a_change(make, tokenizer, family):
    model = make(family)
    before = run(model)
    STRATEGY.inject(copied := copy.deepcopy(model), tokenizer)
    torch.testing.assert_close(run(copied), before, atol=1e-5, rtol=1e-5)
    apart = run(inject(model, tokenizer))
    STRATEGY.merge(model)
    torch.testing.assert_close(run(model), apart, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(apart, before, atol=1e-2)


def test_its_rate_is_its_own(make, tokenizer):
    model = inject(make("bert"), tokenizer)
    scale = {name: STRATEGY.lr_scale(place) for name, place in parameter_infos(model, set()).items()}
    assert {scale[name] for name in own(model)} == {STRATEGY.rate}
    assert {scale[name] for name in scale.keys() - own(model)} == {1.0}
