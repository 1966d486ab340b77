"""Tokenizers that never end, or that fail on a text. `pytest tests/models`."""

import json
import shutil

import pytest

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.base_model import load_tokenizer
from pipeline_lib.pipeline.run import run
from pipeline_lib.recipe.schema import check
from pipeline_lib.util import trial

DOUBLE = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
GROWING = {
    "each letter a thousand million times": {"type": "Sequence", "normalizers": [DOUBLE] * 30},
    "a million letters before each text": {"type": "Prepend", "prepend": "x y " * 1_000_000},
}


@pytest.fixture
def base(document, tiny_bert, tmp_path):
    """The base of `document`, to be changed."""
    document["model"]["base"] = str(tmp_path / "base")
    return shutil.copytree(tiny_bert, tmp_path / "base")


def change(base, **values):
    tokenizer = json.loads((base / "tokenizer.json").read_text()) | values
    (base / "tokenizer.json").write_text(json.dumps(tokenizer))


@pytest.mark.parametrize("normalizer", GROWING.values(), ids=GROWING.keys())
def test_a_tokenizer_that_makes_texts_too_long_is_refused(base, document, normalizer, monkeypatch):
    monkeypatch.setattr(trial, "SECONDS", 2)
    monkeypatch.setattr(trial, "BYTES", 2**28)
    change(base, normalizer=normalizer)
    with pytest.raises(RecipeError, match="has a tokenizer that takes more than"):
        run(check(document))


def test_a_tokenizer_without_its_unknown_token_is_refused(base, document):
    change(base, model={"type": "WordLevel", "vocab": {"[PAD]": 0, "[CLS]": 2, "[SEP]": 3}, "unk_token": "[UNK]"})
    with pytest.raises(RecipeError, match="has a tokenizer that fails on a text"):
        run(check(document))


def test_a_token_id_beyond_all_numbers_is_refused(base, document):
    vocabulary = {"[PAD]": 0, "[UNK]": 4_000_000_000, "[CLS]": 2, "[SEP]": 3}
    change(base, model={"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}, added_tokens=[])
    with pytest.raises(RecipeError, match="a token id that is far too large|has embeddings for"):
        run(check(document))


@pytest.mark.parametrize("limit", [0, -5, "x", [1]])
def test_a_limit_that_is_none_is_refused(base, limit):
    config = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps(config | {"model_max_length": limit}))
    with pytest.raises(RecipeError, match="model_max_length"):
        load_tokenizer(base)


@pytest.mark.parametrize(("limit", "read"), [(2.5, 2), (1e30, 64), (float("inf"), 64), (None, 64)])
def test_a_limit_is_a_whole_number_up_to_the_models_positions(base, limit, read):
    config = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps(config | {"model_max_length": limit}))
    assert load_tokenizer(base).model_max_length == read
