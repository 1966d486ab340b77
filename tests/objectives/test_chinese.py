"""A language without spaces, from row to score: classification, labelling, reading. `pytest tests/objectives`."""

import pyarrow.parquet as pq
import pytest

PLACES = ["家里", "城里", "海边", "车上", "山下"]
MOODS = {"好": ["真不错", "我很喜欢"], "坏": ["太糟糕", "我不喜欢"]}
SAID = [mood for moods in MOODS.values() for mood in moods]
THINGS = ["今天天气", "这杯茶", "那首歌", "昨晚的汤", "这场雨"]


@pytest.fixture
def tiny(tmp_path_factory):
    """A two-layer BERT whose tokens are characters, in place of the families of English words."""
    import torch
    import transformers as hf
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

    characters = sorted({*"".join([*PLACES, *THINGS, *SAID, "在哪里，。？"])})
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    inner = Tokenizer(models.WordLevel({c: i for i, c in enumerate([*marks, *characters])}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("."), "isolated")]
    )
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    folder = tmp_path_factory.mktemp("tiny-chinese")
    hf.PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=64, **names).save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = hf.BertConfig(
        vocab_size=len(marks) + len(characters), max_position_embeddings=64, initializer_range=0.1, **shape
    )
    hf.BertModel(config).save_pretrained(folder)
    return {"bert": folder}


def metrics_of(outcome):
    return pq.read_table(outcome.scores.folder / "predictions.parquet").to_pylist()


def test_classification(trained):
    rows = [
        {"text": f"{place}，{thing}{mood}。", "label": label}
        for label, moods in MOODS.items()
        for mood in moods
        for place in PLACES
        for thing in THINGS
    ]
    outcome, scores = trained(rows, "bert", {"kind": "text_classification"}, training={"epochs": 8})
    assert scores["accuracy"] > 0.9
    assert {row["prediction"] for row in metrics_of(outcome)} == {"好", "坏"}


def test_labelling(trained):
    """Each character is a word, as corpora of Chinese names have it."""
    rows = []
    for place in PLACES:
        for thing in THINGS:
            for mood in SAID:
                tags = [("B-" if index == 0 else "I-") + "地方" for index in range(len(place))]
                rows.append({"tokens": [*place, *thing, *mood], "tags": tags + ["O"] * (len(thing) + len(mood))})
                rows.append({"tokens": [*thing, *mood], "tags": ["O"] * (len(thing) + len(mood))})
    outcome, scores = trained(rows, "bert", {"kind": "token_classification"}, training={"epochs": 4})
    assert scores["span_f1"] > 0.9
    assert all(len(row["prediction"]) == len(row["tokens"]) for row in metrics_of(outcome))


def test_reading(trained):
    rows = []
    for place in PLACES:
        for thing in THINGS:
            for mood in SAID:
                context = f"{thing}{mood}，在{place}。"
                answers = {"text": [place], "answer_start": [context.index(place)]}
                rows.append({"context": context, "question": f"{thing}在哪里？", "answers": answers})
    outcome, scores = trained(
        rows, "bert", {"kind": "question_answering"}, training={"epochs": 10, "learning_rate": 1e-2, "batch_size": 8}
    )
    assert scores["f1"] > 0.8
    assert all(row["prediction"] in row["context"] for row in metrics_of(outcome))
