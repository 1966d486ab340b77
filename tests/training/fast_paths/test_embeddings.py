"""Only the embeddings that rows have are trained, as if all were.

pytest tests/training/fast_paths/test_embeddings.py
"""

import numpy as np
import pytest
import torch
from loops import loop_of
from safetensors.torch import load_file

from pipeline_lib.pipeline import steps
from pipeline_lib.recipe.schema import check
from pipeline_lib.training import finetune

TABLE = "bert.embeddings.word_embeddings.weight"


def weights(loop):
    return {name: weight.detach().clone() for name, weight in loop.model.named_parameters()}


def test_training_is_that_of_the_whole_table_and_other_rows_keep_their_bytes(document, tmp_path, monkeypatch):
    document["training"] |= {"epochs": 2, "learning_rate": 1e-3, "max_grad_norm": 1e9}
    recipe = check(document)
    narrow = loop_of(recipe, tmp_path / "narrow")
    monkeypatch.setattr(finetune, "narrow_embeddings", lambda *_: None)
    whole = loop_of(recipe, tmp_path / "whole")
    before = weights(whole)[TABLE]
    tokens = narrow.vocabulary.tokens
    assert weights(narrow)[TABLE].shape == (len(tokens), before.shape[1])
    assert 0 < len(tokens) < len(before)

    histories = [[r["value"] for r in loop.run().history if r["metric"] == "loss"] for loop in (narrow, whole)]
    assert np.allclose(*histories, rtol=1e-4)
    found, wanted = weights(narrow), weights(whole)
    for name in wanted:
        assert torch.allclose(found[name], wanted[name], atol=1e-5), name
    others = torch.ones(len(before), dtype=torch.bool).index_fill(0, tokens, False)
    assert torch.equal(found[TABLE][others], before[others])
    assert not torch.equal(found[TABLE][tokens], before[tokens])
    table = narrow.model.get_input_embeddings()
    assert table.padding_idx == whole.model.get_input_embeddings().padding_idx
    ids = torch.tensor([[0, len(before) - 1]])
    assert torch.equal(table(ids), found[TABLE][ids])  # tokens that no row has are read again


def test_a_model_is_kept_whole(document, tmp_path):
    document["training"]["epochs"] = 1
    recipe = check(document)
    data = steps.prepare(recipe)
    model = steps.finetune(recipe, data, steps.initialise(recipe, data))
    kept_file = load_file(next((model.folder / "model").glob("*.safetensors")))[TABLE]
    assert len(kept_file) == len(loop_of(recipe, tmp_path / "again").vocabulary.whole)


@pytest.mark.parametrize(
    ("family", "change"),
    [
        ("bert", {"strategies": [{"kind": "partial", "last_layers": 1}]}),  # embeddings are frozen
        ("bert", {"strategies": [{"kind": "full"}, {"kind": "prompt", "length": 3}]}),  # and read with vectors
        ("t5", {}),  # one table for encoder and decoder
        ("gpt2", {"objective": {"kind": "language_modeling", "modeling": "causal", "block_size": 8}}),  # tied
        ("bert", {"objective": {"kind": "language_modeling", "modeling": "masked", "block_size": 8}}),  # tokens vary
    ],
)
def test_where_other_tokens_could_be_read_or_written_all_are_trained(document, tiny, tmp_path, family, change):
    document["model"] = {"base": str(tiny[family])}
    assert loop_of(check(document | change), tmp_path / "work").vocabulary is None


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_decoders_that_classify_train_what_rows_have(document, tiny, tmp_path, family):
    document["model"] = {"base": str(tiny[family])}
    loop = loop_of(check(document), tmp_path / "work")
    assert len(loop.vocabulary.tokens) < len(loop.vocabulary.whole)
    loop.run()
    assert len(loop.model.get_input_embeddings().weight) == len(loop.vocabulary.whole)
