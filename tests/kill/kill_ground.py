"""What is killed: a tiny model and a few rows, made on the spot, and recipes that each have something to lose."""

import csv
from pathlib import Path
from typing import Any

GLAD = ["what a fine day", "i love this tea", "the sun is warm", "we laughed all night"]
SAD = ["it rains on my shoes", "i lost the game", "nobody came to dinner", "the soup is cold"]
WHERE = ["at home", "in town", "by the sea", "near the old mill", "on the slow train", "with her"]
ROWS = [
    (f"{text} {place}", mood) for mood, texts in (("glad", GLAD), ("sad", SAD)) for text in texts for place in WHERE
]

VARIANTS: dict[str, dict[str, Any]] = {
    "accumulation": {  # dropout in every part of a step, in half precision
        "regularizers": [{"kind": "dropout", "value": 0.3}],
        "training": {"epochs": 2, "batch_tokens": 24},
        "execution": {"precision": "bf16", "checkpoint_seconds": 1},
    },
    "stopping": {  # patience and the best score so far; enough epochs for numbers of two digits
        "regularizers": [{"kind": "early_stopping", "metric": "accuracy", "patience": 6}],
        "training": {"epochs": 16, "batch_size": 15, "learning_rate": 0.01},
        "execution": {"checkpoint_seconds": 0.01},
    },
    "gradual": {  # weights that get their first gradient, and their moments, only late
        "strategies": [{"kind": "partial", "last_layers": 2, "gradual": True}],
        "training": {"epochs": 4, "batch_size": 10},
        "execution": {"checkpoint_seconds": 2},
    },
    "frozen": {  # features that are computed inside the training
        "strategies": [{"kind": "partial", "last_layers": 1}],
        "training": {"epochs": 2},
        "execution": {"checkpoint_seconds": 2},
    },
    "start": {  # regularizers that ask for the weights before training
        "strategies": [{"kind": "lora", "rank": 2}],
        "regularizers": [{"kind": "r_drop"}, {"kind": "mixout", "probability": 0.5}, {"kind": "l2_sp", "value": 0.1}],
        "training": {"epochs": 2},
        "execution": {"checkpoint_seconds": 2},
    },
    "head_first": {
        "strategies": [{"kind": "full", "start_epoch": 1}],
        "training": {"epochs": 3, "batch_size": 10},
        "execution": {"checkpoint_seconds": 0.01},
    },
    "no_checkpoint": {  # too short to have one: training begins anew
        "training": {"epochs": 2},
        "execution": {"checkpoint_seconds": 1e9},
    },
}
"""Parts of recipes. Their clock ticks once at every look, so that 2 seconds are a checkpoint every second step."""


def make_ground(folder: Path) -> Path:
    """A folder with base/ and moods.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "moods.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *ROWS])
    _make_base(folder / "base")
    return folder


def document(variant: str, ground: Path, store: Path) -> dict[str, Any]:
    """The recipe of a variant, as plain data."""
    parts = {"training": {}, "execution": {}} | VARIANTS[variant]
    return parts | {
        "name": variant,
        "data": {
            "source": {"kind": "csv", "train": str(ground / "moods.csv")},
            "split": {"validation": 0.2, "test": 0.2},
        },
        "model": {"base": str(ground / "base")},
        "objective": {"kind": "text_classification"},
        "training": {"learning_rate": 5e-3, "batch_size": 6} | parts["training"],
        "evaluation": {"metrics": ["accuracy", "macro_f1"]},
        "execution": {"device": "cpu", "precision": "fp32", "store": str(store)} | parts["execution"],
    }


def _make_base(folder: Path) -> None:
    """A two-layer BERT of random weights that knows the words of the rows."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = sorted({word for text, _ in ROWS for word in text.split()})
    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=32, **special).save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=32, initializer_range=0.3, **shape)
    BertModel(config).save_pretrained(folder)
