"""Packed rows have the losses and gradients of padded ones, or the family is refused. `pytest tests/training`."""

import numpy as np
import pytest
import torch
from conftest import word_tokenizer
from families import DECODERS, FAMILIES, tokenizer_kind, write_family

from pipeline_lib.data.examples import IGNORED, Examples, Ragged, SplitExamples
from pipeline_lib.errors import RecipeError
from pipeline_lib.models.base_model import load_tokenizer
from pipeline_lib.models.building import load_initial, write_initial
from pipeline_lib.models.prompt_inputs import insert_prompt_tokens
from pipeline_lib.recipe.schema import check
from pipeline_lib.training.batches import pack, plan_steps, split_to_pack
from pipeline_lib.training.checkpoint import Checkpoints
from pipeline_lib.training.device import accelerator
from pipeline_lib.training.fast_paths.attention import attend_faster
from pipeline_lib.training.frozen_backbone.layers import frozen_layers, why_not_cached
from pipeline_lib.training.loop import Loop
from pipeline_lib.training.parameters import freeze_and_resolve

WINDOWS = {
    "gemma2": {"sliding_window": 5},
    "gemma3_text": {"sliding_window": 5},
    "mistral": {"sliding_window": 5},
    "mixtral": {"sliding_window": 5},
    "phi3": {"sliding_window": 5},
    "qwen2": {"sliding_window": 5, "use_sliding_window": True, "max_window_layers": 1},
}
REFUSED = {"bloom", "gpt_neo", "gpt_oss", "opt"}
TOO_SMALL = {"stablelm"}
"""Not built with so few dimensions."""
RECURRENT = {
    "mamba": {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4, "initializer_range": 0.5},
    "lfm2": {
        **{"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 32, "num_attention_heads": 2},
        **{"num_key_value_heads": 1, "layer_types": ["conv", "full_attention"], "initializer_range": 0.1},
    },
}
LENGTHS = (3, 19, 8, 2, 14, 20, 5, 11, 7, 16)


def examples(lengths=LENGTHS, vocabulary=40, seed=0):
    """Rows of random tokens, half of which are learned."""
    random = np.random.default_rng(seed)
    rows = [random.integers(4, vocabulary, length).tolist() for length in lengths]
    ids = Ragged.from_lists(rows)
    targets = np.where(random.random(len(ids.values)) < 0.5, ids.values, IGNORED)
    targets[ids.offsets[:-1]] = IGNORED
    targets[ids.offsets[1:] - 1] = ids.values[ids.offsets[1:] - 1]
    return Examples(ids, Ragged(targets, ids.offsets), aligned=True)


def loop_of(family, folder, train=None, strategy=None, regularizers=(), dropout=0.0, objective=None, **training):
    """A training on a model of the family, without validation, ready for its first step."""
    base, initial, work = folder / "base", folder / "initial", folder / "work"
    for part in (initial, work):
        part.mkdir(parents=True)
    write_family(family, word_tokenizer(tokenizer_kind(family)), base, **WINDOWS.get(family, {}))
    recipe = check(
        {
            "name": "packing",
            "data": {"source": {"kind": "csv", "train": "none.csv"}},
            "model": {"base": str(base)},
            "objective": objective or {"kind": "causal_lm"},
            "strategies": [strategy or {"kind": "full"}],
            "regularizers": [*([] if family in RECURRENT else [{"kind": "dropout", "value": dropout}]), *regularizers],
            "training": {"batch_size": len(LENGTHS), **training},
            "execution": {"device": "cpu", "precision": "fp32"},
        }
    )
    write_initial(recipe.objective, recipe.strategies, base, [], 0, initial)
    model, head = load_initial(base, initial, recipe.regularizers)
    attend_faster(model)
    table = freeze_and_resolve(model, head, recipe.strategies, 1e-3, 0.0)
    train = insert_prompt_tokens(train or examples(), recipe.strategies, load_tokenizer(initial))
    here = accelerator(recipe.execution)
    nothing = SplitExamples(None, [], Examples(Ragged.from_lists([]), Ragged.from_lists([]), aligned=True))
    loop = Loop(recipe, model, head, table, train, nothing, 0, here, Checkpoints(work, here))
    loop.begin()
    return loop


def gradients(loop):
    """The loss of one step over all rows, and its gradients by parameter."""
    torch.manual_seed(0)
    loop.model.train()
    loss = loop.stepper._compute_own_gradients(np.arange(len(loop.train)))
    return loss, {name: weight.grad.clone() for name, weight in loop.stepper.weights.items() if weight.grad is not None}


def assert_equal(packed, padded):
    loss, expected = padded
    got, grads = packed
    assert got == pytest.approx(loss, rel=1e-5)
    assert grads.keys() == expected.keys()
    for name, grad in expected.items():
        torch.testing.assert_close(grads[name], grad, rtol=1e-5, atol=1e-5 * float(grad.abs().max()) + 1e-9, msg=name)


@pytest.mark.parametrize("family", sorted(DECODERS.keys() - REFUSED - TOO_SMALL))
def test_loss_and_gradients_are_those_of_padded_rows(tmp_path, family):
    packed = loop_of(family, tmp_path / "packed", packing=True)
    padded = loop_of(family, tmp_path / "padded")
    assert_equal(gradients(packed), gradients(padded))


@pytest.mark.parametrize("family", sorted(REFUSED))
def test_families_that_cannot_keep_rows_apart_are_refused(tmp_path, family):
    with pytest.raises(RecipeError, match=r"training\.packing.*family " + family):
        loop_of(family, tmp_path, packing=True)


PROMPT = {"kind": "prompt", "length": 3}
METHODS = {
    "lora": {"strategy": {"kind": "lora", "rank": 2}},
    "prompt": {"strategy": PROMPT},
    "deep prompt": {"strategy": PROMPT | {"depth": "all"}},
    "label smoothing": {"regularizers": [{"kind": "label_smoothing", "value": 0.1}]},
    "r_drop": {"regularizers": [{"kind": "r_drop"}]},
    "checkpointing": {"gradient_checkpointing": True},
    "a part of the layers": {"strategy": {"kind": "partial", "last_layers": 1}},
    "passes": {"batch_tokens": 24},
    "blocks": {"objective": {"kind": "language_modeling", "modeling": "causal", "block_size": 32}},
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
def test_methods_give_the_same_with_packed_rows(tmp_path, family, method):
    packed = loop_of(family, tmp_path / "packed", packing=True, **METHODS[method])
    padded = loop_of(family, tmp_path / "padded", **METHODS[method])
    assert_equal(gradients(packed), gradients(padded))


def test_dropout_is_drawn_and_checkpointing_changes_no_byte_of_it(tmp_path):
    drawn, again = (
        gradients(loop_of("gpt2", tmp_path / str(on), dropout=0.2, packing=True, gradient_checkpointing=on))
        for on in (False, True)
    )
    without, _ = gradients(loop_of("gpt2", tmp_path / "without", packing=True))
    assert drawn[0] == again[0] != without
    assert all(torch.equal(grad, again[1][name]) for name, grad in drawn[1].items())


@pytest.mark.parametrize("family", RECURRENT)
def test_families_whose_state_goes_from_row_to_row_are_refused(tmp_path, monkeypatch, family):
    monkeypatch.setitem(FAMILIES, family, RECURRENT[family])
    with pytest.raises(RecipeError, match=rf"family {family}, which mixes packed rows: token losses differ"):
        loop_of(family, tmp_path, packing=True)


def test_two_processes_share_the_rows_of_a_step(tmp_path):
    whole = gradients(loop := loop_of("llama", tmp_path, packing=True))
    loop.model.zero_grad()
    loss, grads = 0.0, {}
    for rank in (0, 1):
        loop.stepper.accelerator = Rank(loop.accelerator, rank)
        loss += loop.stepper._compute_own_gradients(np.arange(len(LENGTHS)))
    grads = {name: weight.grad for name, weight in loop.stepper.weights.items()}
    assert_equal((loss, grads), whole)


class Rank:
    """One of two processes that compute in turn, so that their gradients add up."""

    def __init__(self, accelerator, rank):
        self.accelerator, self.process_index, self.is_main_process = accelerator, rank, rank == 0
        self.num_processes = Ranks(2)

    def __getattr__(self, name):
        return getattr(self.accelerator, name)


class Ranks(int):
    """Two, but for `sum_gradients`, which has nothing to send here."""

    def __eq__(self, other):
        return other == 1

    __hash__ = int.__hash__


def test_a_training_goes_on_from_its_checkpoint_with_the_same_bytes(tmp_path):
    def weights(loop):
        return {name: weight.detach().clone() for name, weight in loop.stepper.weights.items()}

    settings = {"packing": True, "batch_size": 3, "dropout": 0.1, "batch_tokens": 32}
    through = loop_of("llama", tmp_path / "through", **settings)
    steps = plan_steps(through.train.group_tokens, 3, 0, 0)
    for step, rows in enumerate(steps):
        through.stepper.step(rows, step, 1.0)
    killed = loop_of("llama", tmp_path / "killed", **settings)
    for step, rows in enumerate(steps[:2]):
        killed.stepper.step(rows, step, 1.0)
        killed.state.step = killed.state.position = step + 1
    killed.checkpoint_policy.save(killed.state)
    begun = Loop(
        killed.recipe, killed.model, killed.head, killed.table, killed.train, killed.validation, 0,
        killed.accelerator, killed.checkpoints,
    )  # fmt: skip
    with torch.no_grad():
        for weight in killed.stepper.weights.values():
            weight.zero_()
    begun.begin()
    assert begun.state.step == 2
    for step, rows in enumerate(steps[2:], 2):
        begun.stepper.step(rows, step, 1.0)
    expected = weights(through)
    assert all(torch.equal(weight, expected[name]) for name, weight in weights(begun).items())


def test_an_epoch_has_no_padding_and_each_row_once():
    lengths = np.random.default_rng(0).lognormal(4, 0.8, 3000).astype(np.int64).clip(2, 1024)
    width = rows = 0
    for step in plan_steps(lengths, 32, seed=7, epoch=0):
        for packed in split_to_pack(step, lengths, 4096):
            width += lengths[packed].sum()
            rows += len(packed)
            assert lengths[packed].sum() <= 4096
    assert rows == 3000
    assert width / lengths.sum() <= 1.01


def test_a_pack_has_the_tokens_positions_and_targets_of_its_rows():
    encoded = examples((4, 2, 3))
    batch, targets = pack(encoded, [2, 0])
    assert batch["input_ids"][0].tolist() == [*encoded.ids[2], *encoded.ids[0]]
    assert batch["position_ids"][0].tolist() == [0, 1, 2, 0, 1, 2, 3]
    assert targets[0].tolist() == [*encoded.targets[2], *encoded.targets[0]]
    assert targets.shape == batch["input_ids"].shape == (1, 7)


def test_rows_longer_than_the_budget_are_packs_of_their_own():
    packs = split_to_pack(np.arange(5), np.array([9, 3, 30, 4, 12]), 16)
    assert [part.tolist() for part in packs] == [[2], [4], [0, 3, 1]]
    assert split_to_pack(np.arange(0), np.array([9]), 16) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"objective": {"kind": "text_classification"}}, "needs a decoder"),
        ({"objective": {"kind": "language_modeling", "modeling": "masked"}}, "needs objective.modeling: causal"),
        ({"regularizers": [{"kind": "neftune"}]}, "cannot be combined with neftune"),
    ],
)
def test_what_reads_rows_by_themselves_is_refused_at_once(changes, reason):
    document = {
        "name": "packing",
        "data": {"source": {"kind": "csv", "train": "none.csv"}},
        "model": {"base": "none"},
        "objective": {"kind": "causal_lm"},
        "training": {"packing": True},
    }
    with pytest.raises(RecipeError, match=rf"training\.packing.*{reason}"):
        check(document | changes)


def test_nothing_is_cached_below_the_trained_layers(tmp_path):
    loop = loop_of("gpt2", tmp_path, strategy={"kind": "partial", "last_layers": 1}, packing=True)
    infos = loop.infos.values()
    assert frozen_layers(loop.recipe, infos) == 0
    assert why_not_cached(loop.recipe, infos) == "training.packing joins rows"
