"""A pre-trained model with its head, from a folder. `pytest tests/models`."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import word_tokenizer
from families import tokenizer_kind, write_family
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.building import load_initial, write_initial
from pipeline_lib.models.loading import load_pretrained
from pipeline_lib.objectives import CausalLM
from pipeline_lib.strategies import Full


def test_models_that_threads_load_side_by_side_lack_no_weight(tmp_path):
    shape = {"vocab_size": 60, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 32, "pad_token_id": 0}
    GPT2LMHeadModel(GPT2Config(**shape)).save_pretrained(tmp_path)
    with ThreadPoolExecutor(3) as pool:
        loaded = list(pool.map(lambda _: load_pretrained(AutoModelForCausalLM, str(tmp_path)), range(12)))
    for model, new in loaded:
        assert new == set()
        assert not any(parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize(
    ("family", "attention"), [("bloom", "sdpa"), ("bloom", "flash_attention_2"), ("gemma2", "sdpa")]
)
def test_attention_that_the_family_does_not_have_is_refused(tmp_path, family, attention):
    write_family(family, word_tokenizer(tokenizer_kind(family)), tmp_path)
    problem = f"execution.attention = '{attention}': is not supported by the family {family}"
    with pytest.raises(RecipeError, match=problem):
        load_pretrained(AutoModelForCausalLM, str(tmp_path), attn_implementation=attention)


def test_attention_is_computed_as_asked(tmp_path):
    write_family("llama", word_tokenizer("gpt2"), tmp_path / "base")
    objective, folder = CausalLM(kind="causal_lm"), tmp_path / "initial"
    folder.mkdir()
    write_initial(objective, [Full(kind="full")], tmp_path / "base", [], 0, folder)
    for attention, found in (("auto", "sdpa"), ("eager", "eager")):
        model, _ = load_initial(tmp_path / "base", folder, attention=attention)
        assert model.config._attn_implementation == found
