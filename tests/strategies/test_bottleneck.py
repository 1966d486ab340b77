"""Adapters, against the equations of their papers computed in plain torch. `pytest tests/strategies`."""

import copy

import pytest
import torch

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.parameter_depth import parameter_infos
from pipeline_lib.strategies import Bottleneck

IDS = torch.tensor([[1, 7, 8, 9, 2], [1, 11, 12, 13, 2]])


def bottleneck(**fields):
    return Bottleneck(kind="bottleneck", **{"size": 4, **fields})


def run(model):
    more = {"decoder_input_ids": IDS} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model(input_ids=IDS, **more).logits


def shaken(model):
    """The same model with random adapters."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".adapter." in name:
                parameter.normal_(0, 0.5)
    return model


def own(model, strategy):
    return {name for name, place in parameter_infos(model, set()).items() if strategy.is_trainable(place)}


@pytest.mark.parametrize("placement", ["houlsby", "pfeiffer", "parallel"])
@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2", "llama", "t5"])
def test_it_starts_as_the_base_and_then_changes_it(make, tokenizer, family, placement):
    model = make(family)
    names, before = {name for name, _ in model.named_parameters()}, run(model)
    bottleneck(placement=placement).inject(model, tokenizer)
    assert names < {name for name, _ in model.named_parameters()}
    assert torch.equal(run(model), before)
    assert not torch.allclose(run(shaken(model)), before, atol=1e-3)


def listen(module):
    """What goes into a module and comes out, call by call."""
    heard = []
    module.register_forward_hook(lambda module, args, out: heard.append((args[0], out)))
    return heard


def adapted(adapter, x, function):
    inner = function(x @ adapter.down.weight.T + adapter.down.bias)
    return inner @ adapter.up.weight.T + adapter.up.bias


def test_houlsby_is_the_equation_after_both_sublayers(make, tokenizer):
    model = make("bert")
    layer, plain = model.bert.encoder.layer[1], make("bert").bert.encoder.layer[1]
    bottleneck(placement="houlsby").inject(model, tokenizer)
    after_attention, after_feed_forward = listen(layer.attention.output.dense), listen(layer.output.dense)
    run(shaken(model))
    for part, ((x, out),) in ((layer.attention.output, after_attention), (layer.output, after_feed_forward)):
        h = (plain.output if part is layer.output else plain.attention.output).dense(x)
        torch.testing.assert_close(out, h + adapted(part.dense.adapter, h, torch.nn.functional.gelu))


def test_pfeiffer_is_the_equation_after_the_feed_forward_of_a_gpt2(make, tokenizer):
    model = make("gpt2")
    end = model.transformer.h[0].mlp.c_proj
    weight, bias = end.weight.clone(), end.bias.clone()
    bottleneck(placement="pfeiffer", activation="relu", scale=2.0).inject(model, tokenizer)
    heard = listen(end)
    run(shaken(model))
    ((x, out),) = heard
    h = x @ weight + bias
    torch.testing.assert_close(out, h + 2.0 * adapted(end.adapter, h, torch.relu))
    assert not hasattr(model.transformer.h[0].attn.c_proj, "adapter")


def test_parallel_is_the_equation_beside_the_feed_forward_of_a_llama(make, tokenizer):
    model = make("llama")
    feed_forward = model.model.layers[1].mlp
    plain = copy.deepcopy(feed_forward)
    bottleneck(placement="parallel", activation="relu").inject(model, tokenizer)
    heard = listen(feed_forward)
    run(shaken(model))
    ((x, out),) = heard
    torch.testing.assert_close(out, plain(x) + adapted(feed_forward.down_proj.adapter, x, torch.relu))


def test_parallel_keeps_no_step_in_memory(make, tokenizer):
    model = make("bert")
    bottleneck(placement="parallel").inject(model, tokenizer)
    run(model)
    hooks = model.bert.encoder.layer[0].output.dense._forward_hooks.values()
    assert [hook.args[0].input for hook in hooks] == [None]


def test_houlsby_trains_the_layer_norms_and_pfeiffer_does_not(make, tokenizer):
    model = make("bert")
    houlsby, pfeiffer = bottleneck(placement="houlsby"), bottleneck(placement="pfeiffer")
    houlsby.inject(model, tokenizer)
    norms = {f"bert.encoder.layer.{i}.{o}.LayerNorm" for i in (0, 1) for o in ("output", "attention.output")}
    adapters = {name for name, _ in model.named_parameters() if ".adapter." in name}
    assert len(adapters) == 2 * 2 * 4
    assert own(model, houlsby) == adapters | {f"{norm}.{part}" for norm in norms for part in ("weight", "bias")}
    assert own(model, pfeiffer) == own(model, bottleneck(placement="houlsby", layer_norms=False)) == adapters


def test_an_adapter_stands_in_its_layer(make, tokenizer):
    model = make("t5")
    bottleneck(placement="houlsby").inject(model, tokenizer)
    depth = {name: place.depth for name, place in parameter_infos(model, set()).items()}
    assert depth["encoder.block.1.layer.1.DenseReluDense.wo.adapter.down.weight"] == 2
    assert depth["decoder.block.0.layer.1.EncDecAttention.o.adapter.up.bias"] == 3


def test_a_copy_has_adapters_of_its_own(make, tokenizer):
    model = make("bert")
    bottleneck().inject(model, tokenizer)
    before, copied = run(model), copy.deepcopy(model)
    assert not torch.allclose(run(shaken(copied)), before, atol=1e-3)
    assert torch.equal(run(model), before)


def test_a_family_whose_layers_are_built_otherwise_is_refused(make, tokenizer):
    with pytest.raises(
        RecipeError, match="'bottleneck': needs a matrix for the feed-forward, but .* mobilebert have none"
    ):
        bottleneck().inject(make("mobilebert"), tokenizer)
