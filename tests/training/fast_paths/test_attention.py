"""Attention with dropout, as torch's own computes it. `pytest tests/training`."""

import pytest
import torch
from transformers import AutoModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from pipeline_lib.training.fast_paths import attention

ROWS, HEADS, PLACES, WIDTH = 3, 2, 7, 8
SEEN = torch.arange(PLACES) < torch.tensor([7, 4, 2])[:, None, None, None]
MASKS = {
    "none": None,
    "padding": SEEN.expand(ROWS, 1, PLACES, PLACES),
    "padding and order": SEEN & torch.ones(PLACES, PLACES, dtype=torch.bool).tril(),
    "added": torch.where(SEEN, 0.0, torch.finfo(torch.float32).min),
}


@pytest.fixture
def no_noise(monkeypatch):
    """Dropout that drops nothing: what is left must be torch's attention without it."""
    monkeypatch.setattr(attention, "noise", lambda weights, p: torch.ones_like(weights))


def module(causal):
    module = torch.nn.Module()
    module.is_causal = causal
    return module


def heads(places=PLACES):
    return torch.randn(ROWS, HEADS, places, WIDTH, requires_grad=True)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", MASKS)
def test_outputs_and_gradients_are_torchs(no_noise, mask, causal, biased):
    torch.manual_seed(7)
    given = [heads() for _ in range(3)]
    others = {"position_bias": torch.randn(1, HEADS, PLACES, PLACES)} if biased else {}
    ours, _ = attention.attend(module(causal), *given, MASKS[mask], dropout=0.1, scaling=0.3, **others)
    theirs, _ = sdpa_attention_forward(module(causal), *given, MASKS[mask], scaling=0.3, **others)
    torch.testing.assert_close(ours, theirs)
    torch.manual_seed(8)
    towards = torch.randn_like(ours)
    for one, other in zip(*(torch.autograd.grad(out, given, towards) for out in (ours, theirs)), strict=True):
        torch.testing.assert_close(one, other)


def test_one_place_may_look_at_all(no_noise):
    torch.manual_seed(7)
    given = [heads(1), heads(), heads()]
    ours, _ = attention.attend(module(causal=True), *given, None, dropout=0.1)
    torch.testing.assert_close(ours, sdpa_attention_forward(module(causal=True), *given, None)[0])


def test_weights_are_dropped_and_the_rest_scaled():
    torch.manual_seed(7)
    zeros, ones = torch.zeros(64, 2, 50, 4), torch.ones(64, 2, 50, 4)
    out, _ = attention.attend(module(causal=False), zeros, zeros, ones, None, dropout=0.25)
    counts = out[..., 0] * 0.75 * 50  # of 50 equal weights: how many
    assert torch.allclose(counts, counts.round(), atol=1e-3)
    assert abs(counts.mean() / 50 - 0.75) < 5 * (0.25 * 0.75 / (64 * 2 * 50 * 50)) ** 0.5


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "t5"])
def test_models_of_all_families_call_it_and_answer_as_before(tiny, family, monkeypatch):
    calls, whole = [], attention.attend
    monkeypatch.setattr(attention, "attend", lambda *given, **named: calls.append(1) or whole(*given, **named))
    model = AutoModel.from_pretrained(tiny[family])
    batch = {"input_ids": torch.tensor([[2, 110, 111, 3], [2, 112, 3, 0]])}
    batch["attention_mask"] = (batch["input_ids"] > 0).long()
    batch |= {"decoder_input_ids": batch["input_ids"]} if family == "t5" else {}
    with torch.no_grad():
        before = model.eval()(**batch).last_hidden_state
        attention.attend_faster(model)
        assert torch.equal(model(**batch).last_hidden_state, before)
    assert len(calls) == sum(hasattr(part, "is_causal") for part in model.modules())
