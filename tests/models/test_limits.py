"""How many tokens a model reads: its tokenizer is capped, tokens without an embedding are refused."""

import json

import pytest
import transformers as hf

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.base_model import load_tokenizer
from pipeline_lib.models.limits import position_limit
from pipeline_lib.pipeline.run import run
from pipeline_lib.recipe.schema import check

CONFIGS = {
    "bert": (hf.BertConfig(max_position_embeddings=128), 128),
    "gpt2": (hf.GPT2Config(n_positions=96), 96),
    "roberta": (hf.RobertaConfig(max_position_embeddings=514, pad_token_id=1), 512),
    "mpnet": (hf.MPNetConfig(max_position_embeddings=514, pad_token_id=1), 512),
    "bart": (hf.BartConfig(max_position_embeddings=1024), 1024),
    "t5": (hf.T5Config(), None),
    "bloom": (hf.BloomConfig(), None),
    "led": (hf.LEDConfig(max_encoder_position_embeddings=64), 64),
}


@pytest.mark.parametrize("family", CONFIGS)
def test_the_positions_of_a_family(family):
    config, positions = CONFIGS[family]
    assert position_limit(config) == positions


def test_the_models_positions_count_where_the_tokenizer_names_no_limit(tiny, tmp_path):
    for file in tiny["bert"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    document = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(document | {"model_max_length": int(1e30)}))
    assert load_tokenizer(tmp_path).model_max_length == 64


def test_a_token_without_an_embedding_is_refused_before_training(document, tiny_bert, tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    for file in tiny_bert.iterdir():
        (base / file.name).write_bytes(file.read_bytes())
    tokenizer = hf.AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(["dinner", "<order>", "town"])
    tokenizer.save_pretrained(base)
    document["model"]["base"] = str(base)
    rows = (tmp_path / "moods.csv").read_text()
    recipe = check(document)
    (tmp_path / "moods.csv").write_text(rows.replace("at home", "<order>"))
    with pytest.raises(RecipeError, match=r"its tokenizer has .*'<order>' is in the data"):
        run(recipe)


def test_a_padding_token_without_an_embedding_is_refused_before_training(document, tiny_bert, tmp_path):
    """It is in no row, and yet in every batch."""
    base = tmp_path / "base"
    base.mkdir()
    for file in tiny_bert.iterdir():
        (base / file.name).write_bytes(file.read_bytes())
    tokenizer = hf.AutoTokenizer.from_pretrained(base)
    tokenizer.add_special_tokens({"pad_token": "<fill>"})
    tokenizer.save_pretrained(base)
    document["model"]["base"] = str(base)
    with pytest.raises(RecipeError, match="'<fill>' is the padding token"):
        run(check(document))
