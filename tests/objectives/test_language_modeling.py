"""Plain text: packing, what is hidden, perplexity. `pytest tests/objectives`."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline_lib.data.token_masking import corrupt_spans, mask_tokens
from pipeline_lib.errors import RecipeError
from pipeline_lib.objectives import LanguageModeling

TEXTS = ["what a fine day", "i lost the game again", "the soup is cold", "we laughed all night", "a sweet song"]


def rows():
    return [
        {"text": f"{text} {place}"}
        for text in TEXTS
        for place in ("at home", "in town", "by the sea")
        for _ in range(4)
    ]


def test_texts_are_packed_to_full_blocks():
    objective = LanguageModeling(kind="language_modeling", modeling="causal", block_size=8)
    table = pa.table({"input_ids": pa.array([list(range(1, 6)), list(range(6, 20))], pa.list_(pa.int32()))})
    encoded = objective.features(table, [])
    assert encoded.ids.lengths.tolist() == [8, 8, 3]
    assert encoded.ids.values.tolist() == list(range(1, 20))
    assert encoded.targets[1].tolist() == [-100, *range(10, 17)]
    assert encoded.units.tolist() == [7, 7, 2]


def test_one_token_makes_no_block_of_its_own():
    objective = LanguageModeling(kind="language_modeling", modeling="causal", block_size=8)
    table = pa.table({"input_ids": pa.array([list(range(9))], pa.list_(pa.int32()))})
    assert objective.features(table, []).ids.lengths.tolist() == [9]


def test_the_hidden_are_masked_replaced_or_kept_in_berts_shares():
    ids = torch.full((200, 500), 7)
    seen, targets = mask_tokens(ids, ids, 0.15, 4, 100, torch.Generator().manual_seed(1))
    hidden = targets >= 0
    assert hidden.float().mean().item() == pytest.approx(0.15, abs=0.005)
    assert (seen[hidden] == 4).float().mean().item() == pytest.approx(0.8 + 0.1 / 100, abs=0.02)
    assert (seen[hidden] == 7).float().mean().item() == pytest.approx(0.1 + 0.1 / 100, abs=0.02)
    assert torch.equal(seen[~hidden], ids[~hidden])
    assert set(targets.unique().tolist()) == {-100, 7}


@pytest.mark.parametrize("length", [2, 3, 20, 128])
def test_a_corrupted_text_and_its_spans_hold_every_token_once(length):
    ids, sentinels = np.arange(1000, 1000 + length), list(range(100))
    source, target = corrupt_spans(ids, 0.15, sentinels, 999, np.random.default_rng(3))
    assert source[-1] == target[-1] == 999
    spans, current = {}, None
    for token in target[:-1]:
        if token < 100:
            current = spans.setdefault(token, [])
        else:
            current.append(token)
    filled = [t for token in source[:-1] for t in (spans[token] if token < 100 else [token])]
    assert filled == ids.tolist()
    hidden = sum(map(len, spans.values()))
    assert hidden == max(1, round(0.15 * length))


@pytest.mark.parametrize(
    ("family", "modeling"), [("gpt2", "causal"), ("llama", "causal"), ("bert", "masked"), ("t5", "span_corruption")]
)
def test_perplexity_falls(trained, family, modeling):
    objective = {"kind": "language_modeling", "modeling": modeling, "block_size": 16}
    before = trained(rows(), family, objective, training={"epochs": 1, "learning_rate": 1e-9})[1]["perplexity"]
    after = trained(rows(), family, objective, training={"epochs": 15, "learning_rate": 5e-3})[1]["perplexity"]
    assert after < before / 2


def test_what_is_hidden_for_validation_is_the_same_each_time(tiny):
    objective = LanguageModeling(kind="language_modeling", modeling="masked", block_size=64)
    model, _ = objective.model(str(tiny["bert"]), [])
    batch = {"input_ids": torch.arange(110, 150).reshape(2, 20), "attention_mask": torch.ones(2, 20)}
    first, second = (objective.mask_inputs(model.eval(), batch, batch["input_ids"]) for _ in range(2))
    assert torch.equal(first[0]["input_ids"], second[0]["input_ids"])
    one, other = (objective.mask_inputs(model.train(), batch, batch["input_ids"]) for _ in range(2))
    assert not torch.equal(one[1], other[1])


def test_a_tokenizer_without_a_mask_is_refused(trained):
    with pytest.raises(RecipeError, match="family gpt2, which has no MaskedLM"):
        trained(rows(), "gpt2", {"kind": "language_modeling", "modeling": "masked"})
