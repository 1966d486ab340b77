"""Texts generated in batches are those of one row at a time. `pytest tests/models/test_generation.py`"""

import numpy as np
import pytest
import torch
from conftest import word_tokenizer
from families import WRITERS, tokenizer_kind, write_family

from pipeline_lib.data.examples import Examples, Ragged
from pipeline_lib.evaluation.predict import predict
from pipeline_lib.models.base_model import load_tokenizer
from pipeline_lib.models.generation import Generated, _count
from pipeline_lib.objectives import CausalLM, Seq2Seq
from pipeline_lib.training.device import reader

CHANGED = {
    "gemma2": {"sliding_window": 5},
    "gemma3_text": {"sliding_window": 5},
    "gpt2": {"use_cache": False},  # the base's files may say so
    "mistral": {"sliding_window": 5},
}
DECODERS = ("bloom", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "llama", "mistral", "opt", "phi", "qwen2", "qwen3")
LENGTHS = (3, 17, 9, 2, 12, 5, 17)


def loaded(family, folder, beams=1, most=12):
    """A model of random weights, its tokenizer and an objective that lets it generate."""
    write_family(family, word_tokenizer(tokenizer_kind(family)), folder, **CHANGED.get(family, {}))
    if family in WRITERS:
        objective = Seq2Seq(kind="seq2seq", beams=beams, max_target=most)
    else:
        objective = CausalLM(kind="causal_lm", beams=beams, max_answer=most)
    torch.manual_seed(1)
    model, _ = objective.model(str(folder), [])
    if family in WRITERS:  # so that what is written depends on what is read
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(4 if weight.dim() > 1 else 1)
    return model.eval(), load_tokenizer(folder), objective


def prompts_of(model, lengths=LENGTHS):
    random = np.random.default_rng(0)
    ids = Ragged.from_lists([random.integers(4, model.config.vocab_size, length).tolist() for length in lengths])
    return Examples(ids, Ragged(np.full_like(ids.values, -1), ids.offsets), aligned=True)


def generated(model, tokenizer, objective, encoded, batch_tokens, sizes=None):
    def read(batch, targets):
        if sizes is not None:
            sizes.append(len(targets))
        return objective.generate(model, tokenizer, batch, targets)

    here = reader("cpu", "fp32")
    return predict(model, encoded, tokenizer.pad_token_id, batch_tokens, here, read, objective.max_generated)


def empty_targets(encoded):
    return Examples(encoded.ids, Ragged.from_lists([[] for _ in range(len(encoded))]))


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("family", [*DECODERS, "bart", "t5"])
def test_answers_are_those_of_one_row_at_a_time(tmp_path, family, beams):
    model, tokenizer, objective = loaded(family, tmp_path, beams)
    encoded = prompts_of(model)
    if family in WRITERS:
        encoded = empty_targets(encoded)
    together = generated(model, tokenizer, objective, encoded, 10_000, sizes := [])
    assert sizes == [len(LENGTHS)]
    alone = generated(model, tokenizer, objective, encoded, 1, sizes := [])
    assert sizes == [1] * len(LENGTHS)
    assert together == alone
    assert len({*alone}) > 1


def test_prompts_that_leave_little_room_do_not_cut_the_answers_of_others(tmp_path):
    model, tokenizer, objective = loaded("gpt2", tmp_path, most=30)  # 64 positions
    model.generation_config.eos_token_id = tokenizer.eos_token = None
    encoded = prompts_of(model, (60, 3, 50, 40, 60))
    together = generated(model, tokenizer, objective, encoded, 10_000)
    assert [answer.tokens for answer in together] == [4, 30, 14, 24, 4]
    assert together == generated(model, tokenizer, objective, encoded, 1)


def test_the_tokens_to_come_count_in_the_budget(tmp_path):
    model, tokenizer, objective = loaded("llama", tmp_path)
    generated(model, tokenizer, objective, prompts_of(model), 2 * (17 + 12), sizes := [])
    assert sizes[0] == 2 and sum(sizes) == len(LENGTHS) and max(sizes) <= 4


def test_tokens_are_counted_up_to_the_end_and_without_padding():
    assert [_count(row, {3}, 0) for row in ([5, 3, 0, 0], [5, 6, 0, 0], [5, 6], [])] == [2, 2, 2, 0]
    assert Generated("a", 1).text == "a"
