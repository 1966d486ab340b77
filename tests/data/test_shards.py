"""A file becomes a shard of clean, encoded rows, and a prepared split is read back as it was written.

pytest tests/data/test_shards.py
"""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline_lib.data.examples import Ragged
from pipeline_lib.data.prepared import load_split, read_split
from pipeline_lib.data.settings import Data
from pipeline_lib.data.shards import ROWS, UNUSABLE, refuse_missing_columns, write_shard
from pipeline_lib.errors import RecipeError
from pipeline_lib.models.base_model import load_tokenizer
from pipeline_lib.objectives import TextClassification
from pipeline_lib.pipeline import steps
from pipeline_lib.recipe.schema import check

TEXTS = ["what a fine day", "i love this tea in town", "nobody came", "an unknown word", "the soup is cold " * 30]

WITH_SEGMENTS = ["input_ids", "token_type_ids", "attention_mask"]


@pytest.fixture(scope="module")
def tokenizer(tiny_bert):
    return load_tokenizer(tiny_bert)


@pytest.fixture
def shard(tmp_path, tokenizer):
    """Writes records (or lines that are none) to a JSON lines file, makes its shard, and gives its rows."""

    def write(records, columns=None, split=None, **objective):
        lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
        (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
        data = data_of(tmp_path / "rows.jsonl", columns or {}, split or {})
        write_shard(data, objective_of(**objective), tokenizer, [tmp_path / "rows.jsonl"], tmp_path)
        return pq.read_table(tmp_path / ROWS).to_pylist()

    return write


def data_of(file, columns, split):
    source = {"kind": "jsonl", "train": str(file)}
    return Data.model_validate({"source": source, "columns": columns, "split": split})


def objective_of(**fields):
    return TextClassification(kind="text_classification", **fields)


def records_of(texts, label="x"):
    return [{"text": text, "label": label} for text in texts]


def unusable(tmp_path):
    return [(row["line"], row["reason"]) for row in pq.read_table(tmp_path / UNUSABLE).to_pylist()]


# Encoding


def test_a_row_is_encoded_as_the_tokenizer_does_it_alone(shard, tokenizer):
    for text, row in zip(TEXTS, shard(records_of(TEXTS)), strict=True):
        assert row["input_ids"] == tokenizer(text, truncation=True, max_length=64)["input_ids"]
        assert (row["text"], row["token_type_ids"]) == (text, None)


def test_a_long_text_is_cut_to_the_models_own_limit(shard):
    assert max(len(row["input_ids"]) for row in shard(records_of(TEXTS))) == 64


def test_a_long_text_is_cut_to_max_length_with_its_special_tokens(shard, tokenizer):
    rows = shard(records_of(TEXTS), max_length=5)
    assert max(len(row["input_ids"]) for row in rows) == 5
    assert all(row["input_ids"][0] == tokenizer.cls_token_id for row in rows)
    assert all(row["input_ids"][-1] == tokenizer.sep_token_id for row in rows)


def test_a_pair_is_encoded_with_its_segments(shard, tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "model_input_names", WITH_SEGMENTS)
    pairs = [(first, second) for first in TEXTS[:3] for second in TEXTS]
    records = [{"text": first, "reply": second, "label": "x"} for first, second in pairs]
    for (first, second), row in zip(pairs, shard(records, {"text_pair": "reply"}, max_length=16), strict=True):
        wanted = tokenizer(first, second, truncation=True, max_length=16, return_token_type_ids=True)
        assert (row["input_ids"], row["token_type_ids"]) == (wanted["input_ids"], wanted["token_type_ids"])
        assert set(row["token_type_ids"]) == {0, 1}


def test_a_pair_has_no_segments_where_the_model_reads_none(shard, tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "model_input_names", ["input_ids", "attention_mask"])  # as RoBERTa has it
    (row,) = shard([{"text": "what a day", "reply": "i love it", "label": "x"}], {"text_pair": "reply"})
    assert row["input_ids"] == tokenizer("what a day", "i love it")["input_ids"]
    assert row["token_type_ids"] is None


def test_a_list_of_sentences_is_one_text(shard):
    assert shard([{"text": ["what a day", "i love it"], "label": "x"}])[0]["text"] == "what a day i love it"


# Labels


def test_one_label_is_spelt_alike_in_every_format(shard):
    records = [{"text": "a", "label": label} for label in ("1", 1, 1.0, " 1 ")]
    assert {row["label"] for row in shard(records)} == {"1"}


@pytest.mark.parametrize("labels", ["red; blue", ["red", "blue"], ["blue", "red", "red"]])
def test_several_labels_are_read_from_text_and_from_lists(shard, labels):
    (row,) = shard([{"text": "a", "label": labels}], problem_type="multi_label_classification", label_separator=";")
    assert row["label"] == ["blue", "red"]


def test_a_row_may_have_none_of_several_labels(shard):
    (row,) = shard([{"text": "a", "label": []}], problem_type="multi_label_classification")
    assert row["label"] == []


def test_numbers_are_labels_of_a_regression(shard, tmp_path):
    records = [{"text": "a", "label": label} for label in (1, "2.5", -3e-2, "many", None)]
    assert [row["label"] for row in shard(records, problem_type="regression")] == [1.0, 2.5, -0.03]
    assert unusable(tmp_path) == [(4, "label 'many' is not a number"), (5, "no label")]


# Rows that cannot be used


def test_what_is_missing_in_a_later_row_makes_that_row_unusable(shard, tmp_path):
    records = [*records_of(["first"]), {"text": "no label"}, {"label": "x"}, "{broken", *records_of(["last", " "])]
    rows = shard(records)
    assert [(row["line"], row["text"]) for row in rows] == [(1, "first"), (5, "last")]
    assert [line for line, _ in unusable(tmp_path)] == [2, 3, 4, 6]
    assert [reason.split(":")[0] for _, reason in unusable(tmp_path)] == [
        "no label",
        "empty text",
        "invalid JSON",
        "empty text",
    ]


def test_a_second_text_that_is_missing_makes_the_row_unusable(shard, tmp_path):
    shard([{"text": "a", "reply": "b", "label": "x"}, {"text": "a", "label": "x"}], {"text_pair": "reply"})
    assert unusable(tmp_path) == [(2, "empty text_pair")]


def test_a_column_that_the_first_row_leaves_out_is_still_a_column(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n{"text": "b", "label": "x"}\n')
    refuse_missing_columns(data_of("rows.jsonl", {}, {}), objective_of(), {}, tmp_path / "rows.jsonl", "train")


def test_a_column_that_no_row_has_is_refused_with_those_that_there_are(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n{"text": "b", "mood": "x"}\n')
    with pytest.raises(RecipeError, match=r"data\.columns\.label = 'label': .* Choose one of text, mood\."):
        refuse_missing_columns(data_of("rows.jsonl", {}, {}), objective_of(), {}, tmp_path / "rows.jsonl", "train")


# Keys


def test_rows_of_equal_texts_have_equal_keys_whatever_their_labels(shard):
    one, same, other = shard([*records_of(["a"], "x"), *records_of(["a"], "y"), *records_of(["b"], "x")])
    assert one["key"] == same["key"] != other["key"]


def test_the_key_of_a_pair_is_that_of_both_texts(shard):
    pairs = [("a", "b"), ("a", "b"), ("a", "c"), ("b", "a"), ("ab", "b")]
    rows = shard([{"text": a, "pair": b, "label": "x"} for a, b in pairs], {"text_pair": "pair"})
    assert rows[0]["key"] == rows[1]["key"]
    assert len({row["key"] for row in rows}) == 4


def test_rows_of_one_group_have_equal_keys(shard):
    records = [{"text": text, "label": "x", "user": user} for text, user in (("a", 1), ("b", 1), ("a", 2))]
    one, same, other = shard(records, split={"by": "user"})
    assert one["key"] == same["key"] != other["key"]


# Reading back


@pytest.fixture
def large(document, tmp_path):
    """A recipe over two files, one of 5,000 rows, and what preparing it gave."""
    document["data"]["source"] = {"kind": "csv", "train": [str(tmp_path / "large.csv"), str(tmp_path / "small.csv")]}
    document["data"]["split"] = {"validation": 0.1, "test": 0.2}
    for name, rows in (("large", 5000), ("small", 50)):
        lines = [f"{TEXTS[index % 4]} {index} {name},{('glad', 'sad', 'calm')[index % 3]}" for index in range(rows)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,mood", *lines]), encoding="utf-8")
    recipe = check(document)
    return recipe, steps.prepare(recipe).folder, tmp_path / "store" / "steps" / "shard"


def test_a_large_file_has_several_row_groups(large):
    groups = sorted(pq.read_metadata(file).num_row_groups for file in large[2].rglob(ROWS))
    assert groups == [1, 3]


def test_the_splits_of_two_files_hold_every_row_once(large, tmp_path):
    _, prepared, shards = large
    read = [read_split(prepared, shards, split) for split in ("train", "validation", "test")]
    assert [len(table) for table in read] == [3536, 504, 1010]  # shares are rounded in each label
    rows = sorted(f"{row['text']},{row['label']}" for table in read for row in table.to_pylist())
    lines = [line for name in ("large", "small") for line in (tmp_path / f"{name}.csv").read_text().splitlines()[1:]]
    assert rows == sorted(lines)


def test_encoded_rows_are_those_of_the_table(large, tokenizer):
    recipe, prepared, shards = large
    for split in ("train", "validation", "test"):
        table = read_split(prepared, shards, split).to_pylist()
        encoded = load_split(prepared, shards, split, recipe.objective).encoded
        assert len(encoded) == len(table) == len(encoded.targets)
        assert encoded.segments is None
        for index in range(0, len(table), 37):
            assert encoded.ids[index].tolist() == tokenizer(table[index]["text"])["input_ids"]
            assert ["calm", "glad", "sad"][encoded.targets[index]] == table[index]["label"]
        np.testing.assert_array_equal(encoded.lengths, [len(row["input_ids"]) for row in table])


def test_a_split_without_rows_is_read_as_none(document, tmp_path):
    document["data"]["split"] = {"validation": 0, "test": 0.2}
    recipe = check(document)
    prepared, shards = steps.prepare(recipe).folder, tmp_path / "store" / "steps" / "shard"
    assert len(read_split(prepared, shards, "validation")) == 0
    encoded = load_split(prepared, shards, "validation", recipe.objective).encoded
    assert (len(encoded), len(encoded.ids), len(encoded.targets), len(encoded.lengths)) == (0, 0, 0, 0)


def test_pairs_are_read_with_their_segments(document, tmp_path, tiny_bert):
    rows = [f"{first},{second},{first == second}" for first in TEXTS[:4] for second in TEXTS[:4] for _ in range(3)]
    (tmp_path / "pairs.csv").write_text("\n".join(["text,reply,same", *rows]))
    document["data"] |= {
        "source": {"kind": "csv", "train": str(tmp_path / "pairs.csv")},
        "columns": {"text": "text", "text_pair": "reply", "label": "same"},
    }
    document["model"]["base"] = str(shutil.copytree(tiny_bert, tmp_path / "base"))
    config = tmp_path / "base" / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_input_names": WITH_SEGMENTS}))
    recipe = check(document)
    prepared, shards = steps.prepare(recipe).folder, tmp_path / "store" / "steps" / "shard"
    encoded = load_split(prepared, shards, "train", recipe.objective).encoded
    table = read_split(prepared, shards, "train")
    assert encoded.segments.values.tolist() == [one for row in table["token_type_ids"].to_pylist() for one in row]
    assert len(encoded.segments.values) == len(encoded.ids.values)


def test_plain_lists_are_encoded_like_columns():
    lists = Ragged.from_lists([[2, 5, 3], [2, 3]])
    assert (lists.values.tolist(), lists.offsets.tolist()) == ([2, 5, 3, 2, 3], [0, 3, 5])
