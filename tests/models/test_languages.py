"""Models of many languages are told which one to read and to write. `pytest tests/models/test_languages.py`."""

import pytest
import transformers as hf

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.languages import begin_in_language, set_languages

SIZES = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
HEADS = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}


@pytest.fixture(scope="module")
def nllb():
    return hf.NllbTokenizer()


@pytest.fixture(scope="module")
def mbart():
    return hf.MBartTokenizer()


def model_of(tokenizer):
    config = hf.MBartConfig(vocab_size=len(tokenizer), **SIZES, **HEADS, pad_token_id=1, decoder_start_token_id=2)
    return hf.MBartForConditionalGeneration(config)


def test_the_language_begins_a_target_of_nllb_and_is_forced(nllb):
    set_languages(nllb, "eng_Latn", "deu_Latn")
    german = nllb.convert_tokens_to_ids("deu_Latn")
    assert nllb(text_target="")["input_ids"] == [german, nllb.eos_token_id]
    begin_in_language(model := model_of(nllb), nllb)
    assert model.generation_config.forced_bos_token_id == german


def test_the_language_ends_a_target_of_mbart_and_starts_its_decoder(mbart):
    set_languages(mbart, "en_XX", "de_DE")
    german = mbart.convert_tokens_to_ids("de_DE")
    assert mbart(text_target="")["input_ids"] == [mbart.eos_token_id, german]
    begin_in_language(model := model_of(mbart), mbart)
    assert model.generation_config.decoder_start_token_id == german


def test_languages_must_be_named_and_known(nllb, tiny):
    with pytest.raises(RecipeError, match="objective.source_language = '': is required by this base"):
        set_languages(nllb, "", "")
    with pytest.raises(RecipeError, match="objective.target_language = 'german': is not a language of the base"):
        set_languages(nllb, "eng_Latn", "german")
    with pytest.raises(RecipeError, match="the base's tokenizer has no languages"):
        set_languages(hf.AutoTokenizer.from_pretrained(tiny["t5"]), "", "de")
