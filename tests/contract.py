"""What every combination of objective, family and strategies promises, as one function: `keeps_its_promises`.

`tests/test_contract.py` runs it over a rotation, `tests/family_matrix.py` over all families.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline_lib.data.examples import SplitExamples
from pipeline_lib.errors import RecipeError
from pipeline_lib.models.base_model import load_tokenizer
from pipeline_lib.models.building import TRAINED, load_initial, load_trained, write_initial, write_trained
from pipeline_lib.models.prompt_inputs import insert_prompt_tokens
from pipeline_lib.recipe.schema import check
from pipeline_lib.strategies.base import plain_name
from pipeline_lib.training.batches import collate
from pipeline_lib.training.checkpoint import Checkpoints
from pipeline_lib.training.device import accelerator
from pipeline_lib.training.loop import Loop
from pipeline_lib.training.parameters import freeze_and_resolve
from pipeline_lib.training.reference import reference_of
from pipeline_lib.training.step import Stepper

TEXTS = [
    "what a fine day",
    "i lost the game again",
    "the soup is cold",
    "we laughed all night",
    "nobody came",
    "a song",
]
LABELS = ["glad", "sad", "sad", "glad", "sad", "glad"]
WORDS = [{"label": "glad", "words": ["sun"]}, {"label": "sad", "words": ["rains", "cold"]}]
CLOZE = {"template": "{text} it is {mask}", "verbalizer": WORDS}


OBJECTIVES: dict[str, dict[str, Any]] = {
    "classification": {"kind": "text_classification"},
    "cloze": {"kind": "text_classification", "cloze": CLOZE},
    "labelling": {"kind": "token_classification"},
    "reading": {"kind": "question_answering"},
    "seq2seq": {"kind": "seq2seq"},
    "dialogue": {"kind": "causal_lm"},
    "pairs": {"kind": "preference", "loss": "dpo"},
    "odds": {"kind": "preference", "loss": "orpo"},
    "labelled": {"kind": "preference", "loss": "kto"},
    "causal": {"kind": "language_modeling", "modeling": "causal", "block_size": 8},
    "masked": {"kind": "language_modeling", "modeling": "masked", "block_size": 8},
    "spans": {"kind": "language_modeling", "modeling": "span_corruption", "block_size": 8},
}
HIDING = ("masked", "spans")
"""Objectives that hide other tokens in each pass."""
PROMPT = {"kind": "prompt", "length": 3, "rate": 50}  # a head of random weights that is faster leaps to and fro
LORA = {"kind": "lora", "rank": 2}
BOTTLENECK = {"kind": "bottleneck", "size": 4}
STRATEGIES: dict[str, list[dict[str, Any]]] = {
    "full": [{"kind": "full"}],
    "head": [{"kind": "partial"}],
    "last layer": [{"kind": "partial", "last_layers": 1}],
    "biases": [{"kind": "partial", "biases": True}],
    "layer norms": [{"kind": "ln_tuning"}],
    "gradual": [{"kind": "partial", "last_layers": 1, "gradual": True}],
    "layerwise": [{"kind": "full"}, {"kind": "layerwise_lr", "decay": 0.8}],
    "prompt": [PROMPT],
    "prompt behind": [PROMPT | {"position": "after", "init": "random"}],
    "deep prompt": [PROMPT | {"depth": "all"}],
    "houlsby": [BOTTLENECK | {"placement": "houlsby"}],
    "pfeiffer": [BOTTLENECK | {"placement": "pfeiffer"}],
    "parallel": [BOTTLENECK],
    "lora": [LORA],
    "dora": [LORA | {"dora": True}],
    "rslora": [LORA | {"rslora": True}],
    "ia3": [{"kind": "ia3"}],
    "bottleneck and prompt": [BOTTLENECK, PROMPT],
    "lora, layerwise": [LORA, {"kind": "layerwise_lr", "decay": 0.5}],
    "last layer and lora": [{"kind": "partial", "last_layers": 1}, LORA],
    "head first": [{"kind": "full", "start_epoch": 1}],
}
PLAIN_AT_FIRST = ("houlsby", "pfeiffer", "parallel", "lora", "dora", "rslora", "ia3", "lora, layerwise")
"""Strategies that add modules, and leave what the model computes as it was."""


def rows():
    """Rows that hold what any objective asks for."""
    for text, label in zip(TEXTS, LABELS, strict=True):
        words = text.split()
        yield {
            **{"text": text, "label": label, "source": text, "target": " ".join(reversed(words))},
            **{"tokens": words, "tags": ["B-x" if word in ("day", "game", "soup") else "O" for word in words]},
            **{"question": "in what town", "context": text, "prompt": text, "answer": words[-1]},
            **{"chosen": words[-1], "rejected": words[0], "completion": words[-1]},
            "answers": {"text": [words[-1]], "answer_start": [text.rindex(words[-1])]},
        }


def encode(objective, tokenizer):
    """The rows as a split, and the labels that stand in them."""
    roles = objective.columns(check(DOCUMENT).data.columns)
    given = [row | ({"label": row["label"] == "glad"} if "completion" in roles else {}) for row in rows()]
    clean = [objective.clean({role: row[column] for role, column in roles.items()}) for row in given]
    columns = objective.encode(tokenizer, clean)
    schema = pa.schema(objective.arrow_schema())
    columns |= {name: [row.get(name) for row in clean] for name in schema.names if name not in columns}
    table = pa.table({name: columns[name] for name in schema.names}, schema=schema)
    labels = objective.labels(table[objective.label_role]) if objective.label_role else []
    return table, labels, objective.features(table, labels)


DOCUMENT = {
    "name": "contract",
    "data": {"source": {"kind": "csv", "train": "rows.csv"}},
    "model": {"base": "base"},
    "objective": {"kind": "text_classification"},
    "training": {"epochs": 3, "learning_rate": 1e-4, "max_grad_norm": 1e6},
    "execution": {"device": "cpu", "precision": "fp32"},
}


class Ready:
    """A training ready for its first step, all its strategies at work."""

    def __init__(
        self, base: Path, objective: str, strategy: str, folder: Path, dropout: float = 0.0, dtype: str = "auto",
        precision: str = "fp32", quantization: str | None = None, sharding: str = "none",
        changes: dict[str, Any] | None = None,
    ):  # fmt: skip
        regularizers = [{"kind": "dropout", "value": dropout}]
        document = DOCUMENT | {
            "regularizers": regularizers,
            "objective": OBJECTIVES[objective],
            "strategies": STRATEGIES[strategy],
        }
        document["execution"] = DOCUMENT["execution"] | {"precision": precision, "sharding": sharding}
        document["model"] = DOCUMENT["model"] | ({"quantization": {"kind": quantization}} if quantization else {})
        self.recipe, self.base = check(document | (changes or {})), base
        tokenizer = load_tokenizer(base)
        self.table, labels, features = encode(self.recipe.objective, tokenizer)
        self.initial, self.labels = folder / "initial", labels
        self.initial.mkdir()
        self.quantized = {"quantization": self.recipe.model.quantization}
        parts = (self.recipe.objective, self.recipe.strategies, base, labels, 0, self.initial, dtype)
        write_initial(*parts, **self.quantized)
        self.model, self.head = load_initial(base, self.initial, self.recipe.regularizers, dtype)
        resolved = freeze_and_resolve(
            self.model, self.head, self.recipe.strategies, self.recipe.training.learning_rate, 0.0
        )
        if self.recipe.objective.reference_splits:
            plain, _ = self.recipe.objective.model(str(base), labels, **self.quantized)
            computing = accelerator(self.recipe.execution)
            features = replace(features, reference=reference_of(plain, features, tokenizer.pad_token_id, computing))
        train = insert_prompt_tokens(features, self.recipe.strategies, tokenizer)
        nothing = SplitExamples(
            self.table.slice(0, 0), labels, self.recipe.objective.features(self.table.slice(0, 0), labels)
        )
        here = accelerator(self.recipe.execution)
        work = Checkpoints(folder / "work", here)
        of_loop = (self.recipe, self.model, self.head, resolved, train, nothing, tokenizer.pad_token_id, here, work)
        self.loop = Loop(*of_loop, sharding=self.recipe.execution.sharding)
        self.loop.begin()
        self.loop.state.epoch = 2  # the last one, in which all that is claimed is trained
        self.loop._apply_freezing()

    def plain(self) -> Any:
        """The base with the same head, without what strategies have added."""
        model, head = self.recipe.objective.model(str(self.base), self.labels, **self.quantized)
        own = {plain_name(name): parameter for name, parameter in self.model.named_parameters()}
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in head:
                    parameter.copy_(own[name])
        return model

    def in_parts(self) -> Stepper:
        """The same training's steps in parts of a few rows."""
        recipe, loop = self.recipe, self.loop
        training = recipe.training.model_copy(update={"batch_tokens": 12})
        weights = {name: self.model.get_parameter(name) for name in self.trained}
        of_model = (self.model, weights, self.head, loop.train, loop.pad, loop.accelerator, loop.optimizer)
        return Stepper(recipe.model_copy(update={"training": training}), *of_model)

    @property
    def trained(self) -> set[str]:
        return {name for name, parameter in self.model.named_parameters() if parameter.requires_grad}


def measure(recipe, model, encoded, pad):
    """Logits of all rows, and the mean loss, without dropout and with the same tokens hidden each time."""
    batch, targets = collate(encoded, np.arange(len(encoded)), pad)
    with torch.no_grad():
        batch, targets = recipe.objective.mask_inputs(model.eval(), batch, targets)
        logits = recipe.objective.forward(model, batch, targets)
        outputs = recipe.objective.outputs(model, batch, targets)
        return logits, float(recipe.objective.loss_sum(outputs, targets)) / int(encoded.units.sum())


READ_PADDING = ("convbert", "funnel", "nystromformer")


def reads_no_padding(it: Ready) -> bool:
    """Whether a row's output is the same with any padding. Convolution, pooling and landmarks read it."""
    return it.model.config.model_type not in READ_PADDING


def keeps_its_promises(
    base: Path, objective: str, strategy: str, folder: Path, steps: int = 8, quantization: str | None = None
) -> Ready:
    """Train a few steps, save and load; what was trained. Raises AssertionError for a broken promise.

    What is trained gets a gradient, and nothing else changes; the loss falls; parts of a step add up to the whole; the
    saved model computes what the trained one did; what adds modules starts from what the base computes.
    """
    it = Ready(base, objective, strategy, folder, quantization=quantization)
    recipe, loop, model = it.recipe, it.loop, it.model
    parameters, trained = dict(model.named_parameters()), it.trained
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    logits, loss = measure(recipe, model, loop.train, loop.pad)

    if strategy in PLAIN_AT_FIRST:  # it starts as what the base computes
        torch.testing.assert_close(logits, measure(recipe, it.plain(), loop.train, loop.pad)[0])

    every, grads = np.arange(loop.train.groups), {}
    loop.stepper._compute_own_gradients(every)
    for name in trained:
        assert parameters[name].grad is not None, f"{name} gets no gradient"
        grads[name] = parameters[name].grad.clone()
    assert any(grad.abs().sum() > 0 for grad in grads.values())
    alone = reads_no_padding(it)
    if objective not in HIDING and alone and not loop.stepper.router:  # a router is judged by what all tokens choose
        loop.optimizer.zero_grad()
        it.in_parts()._compute_own_gradients(every)
        for name in trained:
            torch.testing.assert_close(parameters[name].grad, grads[name], atol=1e-5, rtol=1e-3)
    loop.optimizer.zero_grad()
    for step in range(steps):
        loop.stepper.step(every, step, 1.0)
    after = measure(recipe, model, loop.train, loop.pad)[1]
    assert after < loss or steps < 8, f"the loss does not fall ({loss:.4f}, then {after:.4f})"
    changed = {name for name, parameter in parameters.items() if not torch.equal(parameter, before[name])}
    assert changed <= trained  # and what is frozen is the same to the byte
    for name in trained - changed:  # AdamW does not move what has next to no gradient
        assert steps < 8 and grads[name].abs().max() < 1e-6, f"{name} is not changed"
    assert trained >= it.head
    _is_the_same_when_loaded(it, folder / "model")
    return it


def _is_the_same_when_loaded(it: Ready, folder: Path) -> None:
    from safetensors import safe_open

    recipe, loop, model, trained = it.recipe, it.loop, it.model, it.trained
    write_trained(model, trained, it.initial, "fp32", folder)
    logits, _ = measure(recipe, model, loop.train, loop.pad)
    loaded = load_trained(folder, it.base)  # merged where that can be
    torch.testing.assert_close(measure(recipe, loaded, loop.train, loop.pad)[0], logits, atol=2e-4, rtol=2e-3)
    if (folder / TRAINED).exists():
        with safe_open(folder / TRAINED, "pt") as file:
            assert set(file.keys()) == trained
        with pytest.raises(RecipeError, match="is not the base that this model was trained from"):
            load_trained(folder, it.initial)
