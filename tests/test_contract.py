"""What every combination of strategies promises, on every objective and every family: one test over the whole matrix.

pytest tests/test_contract.py
"""

import re

import pytest
from contract import STRATEGIES, Ready, keeps_its_promises

from pipeline_lib.errors import RecipeError

HEADLESS = ("cloze", "seq2seq", "dialogue", "causal", "masked", "spans")
"""Objectives whose head is the base's own."""
BLOCKS = r"\.\d+\."
UPPER = r"encoder\.layer\.1\.|\.h\.1\.|\.layers\.1\.|decoder\.block\.1\."  # the uppermost of two layers
ENCODER_UPPER = r"encoder\.block\.1\.|encoder\.final_layer_norm"  # of T5's encoder where it has no decoder
CLAIMS = {
    **dict.fromkeys(("full", "layerwise", "head first"), ""),
    "head": "$^",
    "biases": r"bias$",
    **dict.fromkeys(("last layer", "gradual"), "UPPER"),
    **dict.fromkeys(("prompt", "prompt behind", "deep prompt"), r"\.prompt$"),
    "houlsby": r"\.adapter\.|(?i:^(?!.*embed).*(norm|ln_))",
    **dict.fromkeys(("pfeiffer", "parallel"), r"\.adapter\."),
    **dict.fromkeys(("lora", "rslora", "lora, layerwise"), r"\.lora_[AB]\."),
    "dora": r"\.lora_",
    "ia3": r"\.ia3_l\.",
    "bottleneck and prompt": r"\.adapter\.|\.prompt$",
    "last layer and lora": r"\.lora_[AB]\.|UPPER",
}
"""The pattern of all parameters below the head that a strategy claims."""
FAMILIES_OF = {
    "classification": ("bert", "gpt2", "llama", "t5"),
    "cloze": ("bert", "gpt2", "t5"),
    "labelling": ("bert", "gpt2", "llama", "t5"),
    "reading": ("bert", "gpt2", "llama", "t5"),
    "seq2seq": ("t5",),
    "dialogue": ("gpt2", "llama"),
    "causal": ("gpt2", "llama"),
    "masked": ("bert",),
    "spans": ("t5",),
}
SENSELESS = {
    *((objective, family, "head") for objective in HEADLESS for family in FAMILIES_OF[objective]),
    *((objective, "t5", "biases") for objective in ("cloze", "seq2seq", "spans")),
    *((objective, "llama", "biases") for objective in ("dialogue", "causal")),
}
"""These would train nothing: there is no new head, and no bias."""
UNREAD = {
    (objective, family, "prompt behind")
    for objective in ("labelling", "reading", "dialogue", "causal")
    for family in ("gpt2", "llama")
}
"""Here a decoder would have read the text when it comes to its prompt."""

MATRIX = [
    pytest.param(objective, family, strategy, id=f"{strategy}-{objective}-{family}")
    for objective, families in FAMILIES_OF.items()
    for family in families
    for strategy in STRATEGIES
    if (objective, family, strategy) not in SENSELESS | UNREAD
]


def claimed(model, head, strategy):
    """The parameters that a combination says it trains, told by its pattern."""
    upper = (
        UPPER if any(".decoder." in f".{name}" for name, _ in model.named_parameters()) else f"{UPPER}|{ENCODER_UPPER}"
    )
    pattern = re.compile(CLAIMS[strategy].replace("UPPER", upper))
    above = {name for name, _ in model.named_parameters() if "UPPER" in CLAIMS[strategy] and is_above(name)}
    return {name for name, _ in model.named_parameters() if name in head or pattern.search(name)} | above


def is_above(name):
    """What stands above the layers and is no new head: poolers, final norms, a head of the base's own."""
    return not re.search(BLOCKS, name) and not re.search(r"embed|wte|wpe|shared|encoder\.final_layer_norm", name)


@pytest.mark.parametrize(("objective", "family", "strategy"), MATRIX)
def test_contract(tiny, tmp_path, objective, family, strategy):
    it = keeps_its_promises(tiny[family], objective, strategy, tmp_path)
    assert it.trained == claimed(it.model, it.head, strategy)


@pytest.mark.parametrize(("objective", "family", "strategy"), sorted(SENSELESS))
def test_training_nothing_is_refused(tiny, tmp_path, objective, family, strategy):
    with pytest.raises(RecipeError, match="train nothing"):
        Ready(tiny[family], objective, strategy, tmp_path)


@pytest.mark.parametrize(("objective", "family", "strategy"), sorted(UNREAD))
def test_a_prompt_that_nothing_reads_is_refused(tiny, tmp_path, objective, family, strategy):
    with pytest.raises(RecipeError, match="strategies.0.position = 'after': stands behind a text"):
        Ready(tiny[family], objective, strategy, tmp_path)
