"""What every combination of strategies promises, on every objective and every family: one test over the whole matrix.

pytest tests/test_contract.py
"""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline_lib.data.dataset import Split
from pipeline_lib.errors import RecipeError
from pipeline_lib.models.base import load_tokenizer
from pipeline_lib.models.build import TRAINED, load_initial, load_trained, write_initial, write_trained
from pipeline_lib.models.prompts import prompted
from pipeline_lib.recipe import check
from pipeline_lib.training.batches import collate
from pipeline_lib.training.checkpoint import Checkpoints
from pipeline_lib.training.device import accelerator
from pipeline_lib.training.loop import Loop
from pipeline_lib.training.parameters import thaw
from pipeline_lib.training.reference import reference_of

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

OBJECTIVES = {
    "classification": ({"kind": "text_classification"}, ("bert", "gpt2", "llama", "t5")),
    "cloze": ({"kind": "text_classification", "cloze": CLOZE}, ("bert", "gpt2", "t5")),
    "labelling": ({"kind": "token_classification"}, ("bert", "gpt2", "llama", "t5")),
    "reading": ({"kind": "question_answering"}, ("bert", "gpt2", "llama", "t5")),
    "seq2seq": ({"kind": "seq2seq"}, ("t5",)),
    "dialogue": ({"kind": "causal_lm"}, ("gpt2", "llama")),
    "pairs": ({"kind": "preference", "loss": "dpo"}, ("gpt2", "llama")),
    "odds": ({"kind": "preference", "loss": "orpo"}, ("llama",)),
    "labelled": ({"kind": "preference", "loss": "kto"}, ("llama",)),
    "causal": ({"kind": "language_modeling", "modeling": "causal", "block_size": 8}, ("gpt2", "llama")),
    "masked": ({"kind": "language_modeling", "modeling": "masked", "block_size": 8}, ("bert",)),
    "spans": ({"kind": "language_modeling", "modeling": "span_corruption", "block_size": 8}, ("t5",)),
}
PREFERENCES = ("pairs", "odds", "labelled")
DECODING = ("dialogue", "causal", *PREFERENCES)
HEADLESS = ("cloze", "seq2seq", "masked", "spans", *DECODING)
"""Objectives whose head is the base's own."""
HIDING = ("masked", "spans")
"""Objectives that hide other tokens in each pass."""

BLOCKS = r"\.\d+\."
UPPER = r"encoder\.layer\.1\.|\.h\.1\.|\.layers\.1\.|decoder\.block\.1\."  # the uppermost of two layers
ENCODER_UPPER = r"encoder\.block\.1\.|encoder\.final_layer_norm"  # of T5's encoder where it has no decoder
PROMPT = {"kind": "prompt", "length": 3, "rate": 50}  # a head of random weights that is faster leaps to and fro
LORA = {"kind": "lora", "rank": 2}
BOTTLENECK = {"kind": "bottleneck", "size": 4}
# The strategies of a recipe, and the pattern of all parameters below the head that they claim
STRATEGIES = {
    "full": ([{"kind": "full"}], ""),
    "head": ([{"kind": "partial"}], "$^"),
    "last layer": ([{"kind": "partial", "last_layers": 1}], "UPPER"),
    "biases": ([{"kind": "partial", "biases": True}], r"bias$"),
    "gradual": ([{"kind": "partial", "last_layers": 1, "gradual": True}], "UPPER"),
    "layerwise": ([{"kind": "full"}, {"kind": "layerwise_lr", "decay": 0.8}], ""),
    "prompt": ([PROMPT], r"\.prompt$"),
    "prompt behind": ([PROMPT | {"position": "after", "init": "random"}], r"\.prompt$"),
    "deep prompt": ([PROMPT | {"depth": "all"}], r"\.prompt$"),
    "houlsby": ([BOTTLENECK | {"placement": "houlsby"}], r"\.adapter\.|(?i:^(?!.*embed).*(norm|ln_))"),
    "pfeiffer": ([BOTTLENECK | {"placement": "pfeiffer"}], r"\.adapter\."),
    "parallel": ([BOTTLENECK], r"\.adapter\."),
    "lora": ([LORA], r"\.lora_[AB]\."),
    "dora": ([LORA | {"dora": True}], r"\.lora_"),
    "rslora": ([LORA | {"rslora": True}], r"\.lora_[AB]\."),
    "ia3": ([{"kind": "ia3"}], r"\.ia3_l\."),
    "bottleneck and prompt": ([BOTTLENECK, PROMPT], r"\.adapter\.|\.prompt$"),
    "lora, layerwise": ([LORA, {"kind": "layerwise_lr", "decay": 0.5}], r"\.lora_[AB]\."),
    "last layer and lora": ([{"kind": "partial", "last_layers": 1}, LORA], r"\.lora_[AB]\.|UPPER"),
    "head first": ([{"kind": "full", "start_epoch": 1}], ""),
}
PLAIN_AT_FIRST = ("houlsby", "pfeiffer", "parallel", "lora", "dora", "rslora", "ia3", "lora, layerwise")
"""Strategies that add modules, and leave what the model computes as it was."""

SENSELESS = {
    *((objective, family, "head") for objective in HEADLESS for family in OBJECTIVES[objective][1]),
    *((objective, "t5", "biases") for objective in ("cloze", "seq2seq", "spans")),
    *((objective, "llama", "biases") for objective in DECODING),
}
"""These would train nothing: there is no new head, and no bias."""
UNREAD = {
    (objective, family, "prompt behind")
    for objective in ("labelling", "reading", *DECODING)
    for family in OBJECTIVES[objective][1]
    if family in ("gpt2", "llama")
}
"""Here a decoder would have read the text when it comes to its prompt."""

FEW = {("pairs", "gpt2"), ("odds", "llama"), ("labelled", "llama")}
"""Differ from `pairs` on llama in the loss or the family alone, and are tried with few strategies."""

MATRIX = [
    pytest.param(objective, family, strategy, id=f"{strategy}-{objective}-{family}")
    for objective, (_, families) in OBJECTIVES.items()
    for family in families
    for strategy in STRATEGIES
    if (objective, family, strategy) not in SENSELESS | UNREAD
    if (objective, family) not in FEW or strategy in ("full", "last layer", "prompt", "lora")
]


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
    told = [row | ({"label": row["label"] == "glad"} if "completion" in roles else {}) for row in rows()]
    clean = [objective.clean({role: row[column] for role, column in roles.items()}) for row in told]
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
    "regularizers": [{"kind": "dropout", "value": 0.0}],
    "training": {"epochs": 3, "learning_rate": 1e-4, "max_grad_norm": 1e6},
    "execution": {"device": "cpu", "precision": "fp32"},
}


@pytest.fixture
def begin(tiny, tmp_path):
    """begin(objective, family, strategy): a training ready for its first step, all its strategies at work."""

    def build(objective, family, strategy, batch_tokens=4096):
        document = DOCUMENT | {"objective": OBJECTIVES[objective][0], "strategies": STRATEGIES[strategy][0]}
        document["training"] = document["training"] | {"batch_tokens": batch_tokens}
        recipe, base = check(document), tiny[family]
        tokenizer = load_tokenizer(base)
        table, labels, features = encode(recipe.objective, tokenizer)
        initial = tmp_path / f"initial-{batch_tokens}-{strategy}"
        if not initial.exists():
            initial.mkdir()
            write_initial(recipe.objective, recipe.strategies, base, labels, recipe.seed, initial)
        model, head = load_initial(base, initial, recipe.regularizers)
        resolved = thaw(model, head, recipe.strategies, recipe.training.learning_rate, 0.0)
        here, pad = accelerator(recipe.execution), tokenizer.pad_token_id
        if recipe.objective.reference_splits:
            plain, _ = recipe.objective.model(str(base), labels)
            features = replace(features, reference=reference_of(plain, features, pad, here))
        train = prompted(features, recipe.strategies, tokenizer)
        nothing = Split(table.slice(0, 0), labels, recipe.objective.features(table.slice(0, 0), labels))
        loop = Loop(recipe, model, head, resolved, train, nothing, pad, here, Checkpoints(tmp_path / "work"))
        loop.begin()
        loop.state.epoch = 2  # the last one, in which all that is claimed is trained
        loop._thaw()
        return SimpleNamespace(recipe=recipe, loop=loop, model=model, head=head, base=base, initial=initial)

    return build


def measure(recipe, model, encoded, pad):
    """Logits of all rows, and the mean loss, without dropout and with the same tokens hidden each time."""
    batch, targets = collate(encoded, np.arange(len(encoded)), pad)
    with torch.no_grad():
        batch, targets = recipe.objective.corrupt(model.eval(), batch, targets)
        logits = recipe.objective.forward(model, batch, targets)
        return logits, float(recipe.objective.loss_sum(logits, targets)) / int(encoded.units.sum())


def claimed(model, head, strategy):
    """The parameters that a combination says it trains, told by its pattern."""
    upper = (
        UPPER if any(".decoder." in f".{name}" for name, _ in model.named_parameters()) else f"{UPPER}|{ENCODER_UPPER}"
    )
    pattern = re.compile(STRATEGIES[strategy][1].replace("UPPER", upper))
    above = {name for name, _ in model.named_parameters() if "UPPER" in STRATEGIES[strategy][1] and is_above(name)}
    return {name for name, _ in model.named_parameters() if name in head or pattern.search(name)} | above


def is_above(name):
    """What stands above the layers and is no new head: poolers, final norms, a head of the base's own."""
    return not re.search(BLOCKS, name) and not re.search(r"embed|wte|wpe|shared|encoder\.final_layer_norm", name)


@pytest.mark.parametrize(("objective", "family", "strategy"), MATRIX)
def test_contract(begin, tmp_path, objective, family, strategy):
    it = begin(objective, family, strategy)
    recipe, loop, model = it.recipe, it.loop, it.model
    parameters = dict(model.named_parameters())
    trained = claimed(model, it.head, strategy)
    assert {name for name, parameter in parameters.items() if parameter.requires_grad} == trained
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    logits, loss = measure(recipe, model, loop.train, loop.pad)

    if strategy in PLAIN_AT_FIRST:  # it starts as what the base computes
        plain = begin(objective, family, "full")
        torch.testing.assert_close(logits, measure(recipe, plain.model, loop.train, loop.pad)[0])

    every, grads = np.arange(loop.train.groups), {}
    loop.stepper._backward(every)
    for name in trained:
        assert parameters[name].grad is not None, f"{name} gets no gradient"
        grads[name] = parameters[name].grad.clone()
    assert any(grad.abs().sum() > 0 for grad in grads.values())
    if objective not in HIDING:  # what is accumulated from small parts is the whole step's gradient
        parts = begin(objective, family, strategy, batch_tokens=12)
        parts.loop.stepper._backward(every)
        for name, parameter in parts.model.named_parameters():
            if name in trained:
                torch.testing.assert_close(parameter.grad, grads[name], atol=1e-5, rtol=1e-3)

    loop.optimizer.zero_grad()
    for step in range(8):
        loop.stepper.step(every, step, 1.0)
    assert measure(recipe, model, loop.train, loop.pad)[1] < loss
    changed = {name for name, parameter in parameters.items() if not torch.equal(parameter, before[name])}
    assert changed == trained  # and what is frozen is the same to the byte
    assert trained >= it.head

    folder = tmp_path / "model"
    write_trained(model, trained, it.initial, "fp32", folder)
    logits, _ = measure(recipe, model, loop.train, loop.pad)
    loaded = load_trained(folder, it.base)  # merged where that can be
    torch.testing.assert_close(measure(recipe, loaded, loop.train, loop.pad)[0], logits, atol=2e-4, rtol=2e-3)
    if (folder / TRAINED).exists():
        from safetensors import safe_open

        with safe_open(folder / TRAINED, "pt") as kept:
            assert set(kept.keys()) == trained
        with pytest.raises(RecipeError, match="is not the base that this model was trained from"):
            load_trained(folder, it.initial)
    else:
        assert len(trained) == len(parameters)


@pytest.mark.parametrize(("objective", "family", "strategy"), sorted(SENSELESS))
def test_training_nothing_is_refused(begin, objective, family, strategy):
    with pytest.raises(RecipeError, match="train nothing"):
        begin(objective, family, strategy)


@pytest.mark.parametrize(("objective", "family", "strategy"), sorted(UNREAD))
def test_a_prompt_that_nothing_reads_is_refused(begin, objective, family, strategy):
    with pytest.raises(RecipeError, match="strategies.0.position = 'after': stands behind a text"):
        begin(objective, family, strategy)
