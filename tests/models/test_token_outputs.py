"""Losses without logits equal those from all logits. `pytest tests/models/test_token_outputs.py`."""

import pytest
import torch
import transformers
from conftest import word_tokenizer
from families import DECODERS, SHAPE, WRITERS, tokenizer_kind, write_family
from torch import nn
from torch.nn import functional

from pipeline_lib.models import token_outputs as module
from pipeline_lib.models.lm_head import plain_head
from pipeline_lib.objectives.language_modeling import LanguageModeling
from pipeline_lib.objectives.seq2seq import Seq2Seq

CHANGED = {
    "granite": {"logits_scaling": 3.0},
    "gemma2": {"final_logit_softcapping": 0.5},
    "llama": {"tie_word_embeddings": True},
}
FAMILIES = (
    "bart",
    "bert",
    "bloom",
    "gemma2",
    "gpt2",
    "gptj",
    "granite",
    "llama",
    "mixtral",
    "opt",
    "phi",
    "roberta",
    "t5",
)


def objective_of(family):
    if family in WRITERS:
        return Seq2Seq(kind="seq2seq")
    modeling = "causal" if family in (*DECODERS, "cohere") else "masked"
    return LanguageModeling(kind="language_modeling", modeling=modeling, block_size=16)


def loaded(family, folder):
    """A model of a family with a head of some size, in evaluation mode."""
    write_family(family, word_tokenizer(tokenizer_kind(family)), folder, **CHANGED.get(family, {}))
    torch.manual_seed(0)
    model, _ = objective_of(family).model(str(folder), [])
    with torch.no_grad():  # so that biases and scores far from zero count
        model.get_output_embeddings().weight.mul_(5)
        for parameter in (model.get_output_embeddings().bias, getattr(model, "final_logits_bias", None)):
            if parameter is not None:
                parameter.normal_()
    return model.eval()


def batch_of(model):
    ids = torch.randint(4, model.config.vocab_size, (3, 12))
    targets = ids.clone()
    targets[0, :5] = targets[1, 7:] = targets[:, 0] = -100
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, targets


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("family", FAMILIES)
def test_losses_and_gradients_are_those_of_all_logits(tmp_path, monkeypatch, family, smoothing):
    model, objective = loaded(family, tmp_path), objective_of(family)
    monkeypatch.setattr(module, "CPU_CHUNK", 5 * model.config.vocab_size)  # several chunks, the last one smaller
    batch, targets = batch_of(model)
    outputs = objective.outputs(model, batch, targets)
    assert outputs.head is not None
    logits, learned = objective.forward(model, batch, targets), targets >= 0
    torch.testing.assert_close(outputs.logits(), logits[learned], rtol=1e-6, atol=1e-6)
    expected = functional.cross_entropy(logits[learned], targets[learned], reduction="sum", label_smoothing=smoothing)
    loss = objective.loss_sum(outputs, targets, smoothing)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    grads = gradients(model, expected / 7)
    got = gradients(model, loss / 7)
    assert got.keys() == grads.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(got[name], grad, rtol=1e-4, atol=1e-6)


def test_validation_reads_the_same_losses_by_row(tmp_path, monkeypatch):
    model, objective = loaded("gemma2", tmp_path), objective_of("gemma2")
    monkeypatch.setattr(module, "CPU_CHUNK", 5 * model.config.vocab_size)
    batch, targets = batch_of(model)
    with torch.inference_mode():
        outputs = objective.outputs(model, batch, targets)
        logits = objective.forward(model, batch, targets)
        rows = functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none").sum(-1)
        assert objective.loss_sum(outputs, targets).item() == pytest.approx(rows.sum().item(), rel=1e-6)
        collected = objective.collect(outputs, targets)
    assert [nll for nll, _ in collected] == pytest.approx(rows.tolist(), rel=1e-5)
    assert [tokens for _, tokens in collected] == (targets >= 0).sum(-1).tolist()


def test_cohere_scales_its_logits():
    settings = SHAPE | {"vocab_size": 50, "logit_scale": 0.3, "num_key_value_heads": 1, "intermediate_size": 32}
    torch.manual_seed(0)
    model = transformers.CohereForCausalLM(transformers.CohereConfig(**settings, pad_token_id=0)).eval()
    batch, targets = batch_of(model)
    outputs = objective_of("cohere").outputs(model, batch, targets)
    assert outputs.head.factor == 0.3
    logits = model(**batch).logits[:, :-1][targets[:, 1:] >= 0]
    torch.testing.assert_close(outputs.logits(), logits)


def small_gpt2():
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2)).eval()


def with_lora():
    from peft import LoraConfig, inject_adapter_in_model

    return inject_adapter_in_model(LoraConfig(target_modules=["lm_head"]), small_gpt2())


def with_other_logits():
    model = small_gpt2()
    model.register_forward_hook(lambda module, args, out: setattr(out, "logits", out.logits + 1))
    return model


def with_a_hook():
    model = small_gpt2()
    model.lm_head.register_forward_hook(lambda module, args, out: out * 2)
    return model


def with_another_class():
    class Doubled(nn.Linear):
        def forward(self, hidden):
            return super().forward(hidden) * 2

    model = small_gpt2()
    model.lm_head = Doubled(16, 50, bias=False)
    return model


@pytest.mark.parametrize("make", [with_lora, with_other_logits, with_a_hook, with_another_class])
def test_other_heads_compute_all_logits(make):
    model, objective = make(), objective_of("gpt2")
    batch, targets = batch_of(model)
    assert plain_head(model, batch) is None
    outputs = objective.outputs(model, batch, targets)
    logits = model(**batch).logits[:, :-1][targets[:, 1:] >= 0]
    torch.testing.assert_close(outputs.logits(), logits)
    expected = functional.cross_entropy(logits, targets[targets >= 0], reduction="sum", label_smoothing=0.1)
    assert objective.loss_sum(outputs, targets, 0.1).item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_check_of_a_head_draws_no_random_number():
    model = small_gpt2().train()
    batch, _ = batch_of(model)
    before = torch.get_rng_state()
    assert plain_head(model, batch)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training


def test_the_head_computes_in_the_precision_of_the_forward_pass():
    model, objective = small_gpt2(), objective_of("gpt2")
    batch, targets = batch_of(model)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = objective.outputs(model, batch, targets)
        logits = model(**batch).logits[:, :-1][targets[:, 1:] >= 0]
    assert logits.dtype == torch.bfloat16
    assert torch.equal(outputs.logits(), logits.float())
    expected = functional.cross_entropy(logits.float(), targets[targets >= 0], reduction="sum")
    loss = objective.loss_sum(outputs, targets)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    grads, got = gradients(model, expected), gradients(model, loss)
    for name, grad in grads.items():
        torch.testing.assert_close(got[name], grad, rtol=0.05, atol=0.02 * float(grad.abs().max()))


def test_no_learned_token_has_no_loss():
    model, objective = small_gpt2(), objective_of("gpt2")
    batch, targets = batch_of(model)
    loss = objective.loss_sum(objective.outputs(model, batch, torch.full_like(targets, -100)), targets)
    assert loss.item() == 0
    assert not any(grad.any() for grad in gradients(model, loss).values())
