"""A pre-trained model with its head, from a folder. `pytest tests/models`."""

from concurrent.futures import ThreadPoolExecutor

from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from pipeline_lib.models.loading import load_pretrained


def test_models_that_threads_load_side_by_side_lack_no_weight(tmp_path):
    shape = {"vocab_size": 60, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 32, "pad_token_id": 0}
    GPT2LMHeadModel(GPT2Config(**shape)).save_pretrained(tmp_path)
    with ThreadPoolExecutor(3) as pool:
        loaded = list(pool.map(lambda _: load_pretrained(AutoModelForCausalLM, str(tmp_path)), range(12)))
    for model, new in loaded:
        assert new == set()
        assert not any(parameter.is_meta for parameter in model.parameters())
