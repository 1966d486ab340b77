"""Which strategies go together, and what a combination trains. `pytest tests/strategies`."""

import pytest
import torch
from pydantic import TypeAdapter

from pipeline_lib.optimizers import AdamW
from pipeline_lib.strategies import Strategy, refuse_senseless
from pipeline_lib.training.parameters import freeze_and_resolve, groups

HEAD = {"classifier.weight", "classifier.bias"}
FULL, LAYERWISE, LORA, IA3 = {"kind": "full"}, {"kind": "layerwise_lr", "decay": 0.5}, {"kind": "lora"}, {"kind": "ia3"}
BOTTLENECK, PROMPT = {"kind": "bottleneck", "placement": "pfeiffer"}, {"kind": "prompt", "length": 3}
PARTIAL = {"kind": "partial", "last_layers": 1}


def parsed(*documents):
    return TypeAdapter(tuple[Strategy, ...]).validate_python(documents)


def injected(model, tokenizer, *documents):
    strategies = parsed(*documents)
    refuse_senseless(strategies)
    for strategy in strategies:
        strategy.inject(model, tokenizer)
    return strategies


TOGETHER = {
    "bottleneck and prompt": ([BOTTLENECK, PROMPT], {".adapter.", ".prompt"}),
    "LoRA at each layer's rate": ([LORA, LAYERWISE], {".lora_"}),
    "the last layer and LoRA": ([PARTIAL, LORA], {".layer.1.", ".lora_", "pooler"}),
    "LoRA and prompt": ([LORA, PROMPT], {".lora_", ".prompt"}),
    "prompt and LoRA": ([PROMPT, LORA], {".lora_", ".prompt"}),
    "(IA)^3, prompt and bottleneck": ([IA3, PROMPT, BOTTLENECK], {".ia3_l.", ".prompt", ".adapter."}),
    "everything at each layer's rate": ([FULL, LAYERWISE], {""}),
    "everything and prompt": ([FULL, PROMPT], {""}),
    "the head, then everything": ([FULL | {"start_epoch": 1}], {""}),
    "the last layer, then everything": ([PARTIAL, FULL | {"start_epoch": 1}], {""}),
}


@pytest.mark.parametrize(("documents", "parts"), TOGETHER.values(), ids=TOGETHER)
def test_a_combination_trains_what_its_parts_train(make, tokenizer, documents, parts):
    model = make("bert")
    strategies = injected(model, tokenizer, *documents)
    table = freeze_and_resolve(model, HEAD, strategies, 1e-2, 0.0)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    virtual = [-1000, -1001, -1002] if PROMPT in documents else []
    out = model(input_ids=torch.tensor([[1, *virtual, 8, 2]]), labels=torch.tensor([1]))
    out.loss.backward()
    AdamW(kind="adamw").build(groups(model, table, HEAD)).step()
    trained = {row.name for row in table if row.trained}
    assert trained == HEAD | {name for name in before if any(part in name for part in parts)}
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed <= trained
    assert changed > HEAD


def test_scales_of_a_combination_are_multiplied(make, tokenizer):
    model = make("bert")
    strategies = injected(model, tokenizer, LORA | {"rate": 4.0}, PROMPT | {"rate": 8.0}, LAYERWISE)
    rates = {row.name: row.learning_rate for row in freeze_and_resolve(model, HEAD, strategies, 1.0, 0.0)}
    assert rates["bert.embeddings.word_embeddings.prompt"] == 8.0 / 8
    assert rates["bert.encoder.layer.1.attention.self.query.lora_A.default.weight"] == 4.0 / 2


SENSELESS = {
    "twice": ([LORA, LORA], "'lora' appears 2 times"),
    "all and a part": ([FULL, PARTIAL], "'full' already trains everything that 'partial' selects"),
    "all and norms": ([FULL, {"kind": "ln_tuning"}], "'full' already trains everything that 'ln_tuning' selects"),
    "all and adapters": ([FULL, BOTTLENECK], "'full' already trains the weights that 'bottleneck'"),
    "all and LoRA": ([LORA, FULL | {"start_epoch": 1}], "'full' already trains the weights that 'lora'"),
    "all and (IA)^3": ([FULL, IA3], "'full' already trains the weights that 'ia3'"),
    "two that wrap": ([LORA, IA3], "'lora' and 'ia3' would both wrap"),
    "rates for nothing": ([LAYERWISE], "'layerwise_lr' has nothing below the head to scale"),
    "rates for the head": ([{"kind": "partial"}, LAYERWISE], "'layerwise_lr' has nothing below the head to scale"),
}


@pytest.mark.parametrize(("documents", "message"), SENSELESS.values(), ids=SENSELESS)
def test_what_makes_no_sense_together_is_refused(documents, message):
    with pytest.raises(ValueError, match=message):
        refuse_senseless(parsed(*documents))
