"""What the tests share: a tiny model made on the spot, a small data set of ours, and a recipe over both."""

import csv
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach for a hub
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

import pytest

from pipeline_lib.recipe import check

MOODS = {
    "glad": ["what a fine day", "i love this tea", "the sun is warm and kind", "we laughed all night", "a sweet song"],
    "sad": [
        "it rains on my shoes",
        "i lost the game again",
        "nobody came to dinner",
        "the soup is cold",
        "a long wait",
    ],
}
PLACES = ["at home", "in town", "by the sea", "near the mill", "on the train", "with my sister"]


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory):
    """A folder with a two-layer BERT of random weights and a word-level tokenizer; a second to make."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-bert")
    words = sorted(
        {word for texts in MOODS.values() for text in texts for word in text.split()} | set(" ".join(PLACES).split())
    )
    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **special).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def moods_csv(tmp_path):
    """60 rows of text and mood, as a file that a test may change."""
    rows = [(f"{text} {place}", mood) for mood, texts in MOODS.items() for text in texts for place in PLACES]
    with (tmp_path / "moods.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "mood"), *rows])
    return tmp_path / "moods.csv"


@pytest.fixture(scope="session")
def tracking_uri(tmp_path_factory):
    """One MLflow for all tests: making its tables takes seconds. Runs are told apart by their experiment."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def document(tmp_path, tiny_bert, moods_csv, tracking_uri, monkeypatch):
    """A recipe as plain data, complete and quick, for a test to change."""
    monkeypatch.chdir(tmp_path)  # MLflow writes its artifacts into the working directory
    return {
        "name": "moods",
        "data": {
            "source": {"kind": "csv", "train": str(moods_csv)},
            "columns": {"text": "text", "label": "mood"},
            "split": {"validation": 0.2, "test": 0.2},
        },
        "model": {"base": str(tiny_bert)},
        "objective": {"kind": "text_classification"},
        "training": {"epochs": 6, "learning_rate": 5e-3, "batch_size": 4},
        "execution": {
            "store": str(tmp_path / "store"),
            "tracking_uri": tracking_uri,
            "experiment": tmp_path.name,
            "device": "cpu",
            "precision": "fp32",
        },
    }


@pytest.fixture
def recipe(document):
    """The same, checked."""
    return check(document)
