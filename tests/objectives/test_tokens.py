"""Token ids are those of the tokenizer's own call. `pytest tests/objectives/test_tokens.py`."""

import pytest
from transformers import AutoTokenizer, ByT5Tokenizer

from pipeline_lib.objectives.tokens import token_ids

TEXTS = ["a lovely evening in town", "", "bad [MASK] news", "x " * 90, "Grüße, 你好"]
PAIRS = ["how", "x " * 50, "", "y " * 40, "in town"]


@pytest.fixture(params=["bert", "gpt2", "llama", "t5", "written in Python"])
def tokenizer(request, tiny):
    return AutoTokenizer.from_pretrained(tiny[request.param]) if request.param in tiny else ByT5Tokenizer()


@pytest.mark.parametrize("limit", [None, 12])
@pytest.mark.parametrize("pairs", [None, PAIRS])
@pytest.mark.parametrize("special", [True, False])
def test_ids_and_segments_are_those_of_a_call(tokenizer, limit, pairs, special):
    cut = {"truncation": True, "max_length": limit} if limit else {}
    encoded = tokenizer(TEXTS, pairs, add_special_tokens=special, return_token_type_ids=True, **cut)
    ids, segments = token_ids(tokenizer, TEXTS, pairs, limit=limit, special=special)
    assert ids == encoded["input_ids"]
    assert segments == encoded["token_type_ids"]
    assert limit is None or max(map(len, ids)) == limit


def test_a_text_is_cut_on_the_side_that_the_tokenizer_names(tiny):
    tokenizer = AutoTokenizer.from_pretrained(tiny["bert"], truncation_side="left")
    tokenizer(TEXTS, padding=True)  # what an earlier call has asked for is forgotten
    ids, _ = token_ids(tokenizer, ["bad news in town"], limit=4)
    assert tokenizer.convert_ids_to_tokens(ids[0]) == ["[CLS]", "in", "town", "[SEP]"]
