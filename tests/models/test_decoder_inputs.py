"""Decoders read their targets one place later, in every family. `pytest tests/models/test_decoder_inputs.py`"""

import pytest
import torch
from conftest import word_tokenizer
from families import WRITERS, tokenizer_kind, write_family
from transformers import AutoModelForSeq2SeqLM

from pipeline_lib.models.decoder_inputs import decoder_inputs


@pytest.mark.parametrize("family", [family for family in WRITERS if family != "mbart"])
def test_a_decoder_reads_the_start_token_and_all_targets_but_the_last(tmp_path, family):
    write_family(family, word_tokenizer(tokenizer_kind(family)), tmp_path)
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    inputs = decoder_inputs(model, torch.tensor([[5, 6, 7], [8, 3, -100]]))
    assert inputs.tolist() == [[0, 5, 6], [0, 8, 3]]


def test_mbart_begins_with_the_language_that_ends_its_targets(tmp_path):
    write_family("mbart", word_tokenizer(tokenizer_kind("mbart")), tmp_path)
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert decoder_inputs(model, torch.tensor([[5, 6, 9], [8, 9, -100]])).tolist() == [[9, 5, 6], [9, 8, 9]]
