"""The last block computes the one place that the head reads: the same answers and gradients. `pytest tests/models`."""

import copy

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from pipeline_lib.training.fast_paths.cls_only import FAMILIES, compute_first_place_alone

LAYERS = 2


def classifier(family, attention="sdpa"):
    torch.manual_seed(7)
    sizes = {"hidden_size": 16, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": 32}
    config = AutoConfig.for_model(
        family, vocab_size=50, num_labels=3, pad_token_id=0, attn_implementation=attention, **sizes
    )
    return AutoModelForSequenceClassification.from_config(config).eval()


def rows(padded):
    ids = torch.randint(3, 50, (4, 7), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(7) < torch.tensor([[7], [5], [3], [1]])).long() if padded else torch.ones_like(ids)
    return {"input_ids": ids * mask, "attention_mask": mask}


def learned(model, batch):
    """Logits, and the gradient of every parameter that has one."""
    logits = model(**batch).logits
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 1])).backward()
    return logits, {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize(("family", "attention"), [("bert", "eager"), *((family, "sdpa") for family in FAMILIES)])
def test_logits_and_gradients_are_those_of_the_whole_block(family, attention, padded):
    whole = classifier(family, attention)
    first = copy.deepcopy(whole)
    compute_first_place_alone(first)
    (logits, gradients), (expected, wanted) = (learned(model, rows(padded)) for model in (first, whole))
    torch.testing.assert_close(logits, expected)
    assert gradients.keys() == wanted.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, wanted[name], msg=name)


def test_the_last_feed_forward_computes_one_place_of_each_row():
    model, shapes = classifier("bert"), []
    compute_first_place_alone(model)
    for layer in model.bert.encoder.layer:
        layer.intermediate.register_forward_hook(lambda module, given, out: shapes.append(tuple(out.shape)))
    model(**rows(padded=True))
    assert shapes == [(4, 7, 32), (4, 1, 32)]


def test_a_copy_computes_with_weights_of_its_own():
    model = classifier("bert")
    compute_first_place_alone(model)
    copied = copy.deepcopy(model)
    before = copied(**rows(padded=True)).logits
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    torch.testing.assert_close(copied(**rows(padded=True)).logits, before)


@pytest.mark.parametrize("family", ["gpt2", "distilbert"])
def test_other_families_are_left_as_they_are(family):
    sizes = {"distilbert": {"dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 4}}
    sizes |= {"gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 4, "pad_token_id": 0}}
    config = AutoConfig.for_model(family, vocab_size=50, **sizes[family])
    model = AutoModelForSequenceClassification.from_config(config).eval()
    before = model(**rows(padded=True)).logits
    compute_first_place_alone(model)
    assert torch.equal(model(**rows(padded=True)).logits, before)
