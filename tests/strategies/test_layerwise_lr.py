"""The rate of each parameter, against ULMFiT's rule worked out by hand. `pytest tests/strategies`."""

import pytest
from pydantic import ValidationError

from pipeline_lib.models.parameter_depth import parameter_infos
from pipeline_lib.strategies import LayerwiseLR, LoRA
from pipeline_lib.strategies.base import ParameterInfo

HEAD = {"classifier.weight", "classifier.bias"}


def scales(model, **fields):
    strategy = LayerwiseLR(kind="layerwise_lr", **fields)
    return {name: strategy.lr_scale(place) for name, place in parameter_infos(model, HEAD).items()}


def test_each_layer_learns_at_half_the_rate_of_the_one_above(make):
    scale = scales(make("bert"), decay=0.5)
    assert scale["classifier.weight"] == scale["bert.pooler.dense.weight"] == 1.0
    assert scale["bert.encoder.layer.1.output.dense.weight"] == 0.5
    assert scale["bert.encoder.layer.0.attention.self.query.bias"] == 0.25
    assert scale["bert.embeddings.word_embeddings.weight"] == 0.125


def test_a_named_rate_replaces_the_decay_and_the_first_pattern_counts(make):
    rates = [{"pattern": "*.query.weight", "scale": 3.0}, {"pattern": "*.layer.0.*", "scale": 0.0}]
    scale = scales(make("bert"), decay=0.5, rates=rates)
    assert scale["bert.encoder.layer.0.attention.self.query.weight"] == 3.0
    assert scale["bert.encoder.layer.0.attention.self.query.bias"] == 0.0
    assert scale["bert.encoder.layer.1.attention.self.query.bias"] == 0.5


def test_without_decay_the_rest_keeps_its_rate(make):
    scale = scales(make("bert"), rates=[{"pattern": "*bias", "scale": 2.0}])
    assert scale["bert.embeddings.word_embeddings.weight"] == 1.0
    assert scale["bert.pooler.dense.bias"] == 2.0


def test_a_wrapped_weight_keeps_its_name():
    strategy = LayerwiseLR(kind="layerwise_lr", rates=[{"pattern": "*.query.weight", "scale": 2.0}])
    assert strategy.lr_scale(ParameterInfo("layer.0.query.base_layer.weight", 1, 2)) == 2.0


def test_it_trains_nothing(make):
    strategy = LayerwiseLR(kind="layerwise_lr", decay=0.9)
    assert not any(strategy.is_trainable(place) for place in parameter_infos(make("bert"), HEAD).values())


def test_updates_of_low_rank_learn_at_their_layers_rate(make, tokenizer):
    model = make("bert")
    LoRA(kind="lora").inject(model, tokenizer)
    assert scales(model, decay=0.5)["bert.encoder.layer.0.attention.self.query.lora_A.default.weight"] == 0.25


@pytest.mark.parametrize("fields", [{}, {"decay": 0.0}, {"decay": 1.5}, {"rates": [{"pattern": "*", "scale": -1}]}])
def test_what_makes_no_sense_is_refused(fields):
    with pytest.raises(ValidationError):
        LayerwiseLR(kind="layerwise_lr", **fields)
