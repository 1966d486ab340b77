"""What every combination of strategies promises, on every objective and every family: one test over the whole matrix.

pytest tests/test_contract.py
"""

import re
from functools import cache
from itertools import combinations

import pytest
from conftest import word_tokenizer
from contract import STRATEGIES, Ready, keeps_its_promises
from families import rotation, tokenizer_kind, write_family

from pipeline_lib.errors import RecipeError

PREFERENCES = ("pairs", "odds", "labelled")
DECODING = ("dialogue", "causal", *PREFERENCES)
HEADLESS = ("cloze", "seq2seq", "masked", "spans", *DECODING)
"""Objectives whose head is the base's own."""
BLOCKS = r"\.\d+\."
UPPER = r"encoder\.layer\.1\.|\.h\.1\.|\.layers\.1\.|decoder\.block\.1\."  # the uppermost of two layers
ENCODER_UPPER = r"encoder\.block\.1\.|encoder\.final_layer_norm"  # of T5's encoder where it has no decoder
CLAIMS = {
    **dict.fromkeys(("full", "layerwise", "head first"), ""),
    "head": "$^",
    "biases": r"bias$",
    "layer norms": r"(?i:norm|\bln_)\w*\.(weight|bias)$",
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
    "pairs": ("gpt2", "llama"),
    "odds": ("llama",),
    "labelled": ("llama",),
    "causal": ("gpt2", "llama"),
    "masked": ("bert",),
    "spans": ("t5",),
}
SENSELESS = {
    *((objective, family, "head") for objective in HEADLESS for family in FAMILIES_OF[objective]),
    *((objective, "t5", "biases") for objective in ("cloze", "seq2seq", "spans")),
    *((objective, "llama", "biases") for objective in DECODING),
}
"""These would train nothing: there is no new head, and no bias."""
UNREAD = {
    (objective, family, "prompt behind")
    for objective in ("labelling", "reading", *DECODING)
    for family in FAMILIES_OF[objective]
    if family in ("gpt2", "llama")
}
"""Here a decoder would have read the text when it comes to its prompt."""

FEW = {("pairs", "gpt2"), ("odds", "llama"), ("labelled", "llama")}
"""Differ from `pairs` on llama in the loss or the family alone, and are tried with few strategies."""

MATRIX = [
    (objective, family, strategy)
    for objective, families in FAMILIES_OF.items()
    for family in families
    for strategy in STRATEGIES
    if (objective, family, strategy) not in SENSELESS | UNREAD
    if (objective, family) not in FEW or strategy in ("full", "last layer", "prompt", "lora")
]


def every_pair(matrix):
    """A part of the matrix with each pair of an objective, a family and a strategy: the diagonal, and what it lacks."""

    def off_diagonal(case):
        objective, family, strategy = case
        families, place = FAMILIES_OF[objective], [*STRATEGIES].index(strategy) + [*FAMILIES_OF].index(objective)
        return (families.index(family) - place) % len(families)

    chosen, met = set(), set()
    for combination in sorted(matrix, key=off_diagonal):
        pairs = set(combinations(combination, 2))
        if not pairs <= met:
            chosen.add(combination)
            met |= pairs
    return chosen


QUICK = every_pair(MATRIX)


def claimed(model, head, strategy):
    """The parameters that a combination says it trains, told by its pattern."""
    upper = (
        UPPER if any(".decoder." in f".{name}" for name, _ in model.named_parameters()) else f"{UPPER}|{ENCODER_UPPER}"
    )
    pattern = re.compile(CLAIMS[strategy].replace("UPPER", upper))
    above = {name for name, _ in model.named_parameters() if "UPPER" in CLAIMS[strategy] and is_above(name)}
    return {name for name, _ in model.named_parameters() if name in head or pattern.search(name)} | above


def is_above(name):
    """What stands above the layers and is not a new head: poolers, final norms, a head of the base's own."""
    return not re.search(BLOCKS, name) and not re.search(r"embed|wte|wpe|shared|encoder\.final_layer_norm", name)


@pytest.mark.parametrize(
    ("objective", "family", "strategy"),
    [
        pytest.param(*case, id="{2}-{0}-{1}".format(*case), marks=() if case in QUICK else pytest.mark.matrix)
        for case in MATRIX
    ],
)
def test_contract(tiny, tmp_path, objective, family, strategy):
    it = keeps_its_promises(tiny[family], objective, strategy, tmp_path)
    assert it.trained == claimed(it.model, it.head, strategy)


QUANTIZED = [
    ("bert", "classification", "parallel", "int8"),
    ("bert", "labelling", "head", "nf4"),
    ("bert", "masked", "biases", "nf4"),
    ("bert", "reading", "dora", "int8"),
    ("gpt2", "causal", "lora", "nf4"),
    ("gpt2", "dialogue", "ia3", "int8"),
    ("gpt2", "reading", "houlsby", "nf4"),
    ("llama", "classification", "lora, layerwise", "int8"),
    ("llama", "dialogue", "lora", "int8"),
    ("llama", "dialogue", "dora", "nf4"),
    ("llama", "causal", "lora", "nf4"),
    ("llama", "labelled", "layer norms", "nf4"),
    ("llama", "pairs", "deep prompt", "nf4"),
    ("t5", "seq2seq", "lora", "nf4"),
    ("t5", "spans", "ia3", "int8"),
    ("t5", "cloze", "bottleneck and prompt", "nf4"),
]
"""What trains on a quantised base: strategies that add weights, or train biases, norms or the head."""


@pytest.mark.parametrize(("family", "objective", "strategy", "kind"), QUANTIZED)
def test_contract_of_quantized_bases(tiny, tmp_path, family, objective, strategy, kind):
    it = keeps_its_promises(tiny[family], objective, strategy, tmp_path, quantization=kind)
    assert it.trained == claimed(it.model, it.head, strategy)
    assert any(not weight.is_floating_point() for weight in it.model.parameters())


ROTATED = (
    *("albert", "roberta", "roberta-prelayernorm", "deberta-v2", "distilbert", "electra", "modernbert", "mpnet"),
    *("longformer", "xlnet"),
    *("bloom", "deepseek_v3", "falcon", "gemma3_text", "gpt_neox", "gpt_oss", "mixtral", "opt", "phi3", "qwen2_moe"),
    *("qwen3", "bart", "led", "longt5", "marian", "mt5", "pegasus"),
)
"""Families of which each goes through a third of the strategies; `tests/family_matrix.py` runs all of them."""
REFUSALS = (
    "no trainable parameters: this base and objective add no head",
    "is of the family .*, which has no (SequenceClassification|TokenClassification|QuestionAnswering|MaskedLM)",
    "needs a matrix for the (keys|attention output|feed-forward), but the blocks of the family",
    "objective.modeling = 'span_corruption': needs",
    "is of the family xlnet, whose head reads the last position",
    "prompt",
)
"""What a family may lack; it is said before training."""


@pytest.fixture(scope="session")
def family_folder(tmp_path_factory):
    """family_folder(name): a tiny model of a family, written once."""

    @cache
    def written(family):
        folder = tmp_path_factory.mktemp(family)
        write_family(family, word_tokenizer(tokenizer_kind(family)), folder)
        return folder

    return written


@pytest.mark.parametrize(
    ("family", "objective", "strategy"),
    [(family, *pair) for index, family in enumerate(ROTATED) for pair in rotation(family)[index % 3 :: 3]],
)
def test_contract_of_many_families(family_folder, tmp_path, family, objective, strategy):
    try:
        keeps_its_promises(family_folder(family), objective, strategy, tmp_path, steps=2)
    except RecipeError as error:
        assert re.search("|".join(REFUSALS), str(error)), error


@pytest.mark.parametrize(("objective", "family", "strategy"), sorted(SENSELESS))
def test_training_nothing_is_refused(tiny, tmp_path, objective, family, strategy):
    with pytest.raises(RecipeError, match="no trainable parameters"):
        Ready(tiny[family], objective, strategy, tmp_path)


@pytest.mark.parametrize(("objective", "family", "strategy"), sorted(UNREAD))
def test_a_prompt_that_nothing_reads_is_refused(tiny, tmp_path, objective, family, strategy):
    with pytest.raises(
        RecipeError, match="strategies.0.position = 'after': has no effect: .* no token sees the prompt"
    ):
        Ready(tiny[family], objective, strategy, tmp_path)
