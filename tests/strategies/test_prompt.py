"""Learned prompts, against models that are fed with the vectors by hand. `pytest tests/strategies`."""

import copy

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from pipeline_lib.data.examples import VIRTUAL, Examples, Ragged
from pipeline_lib.errors import RecipeError
from pipeline_lib.models.generation import move_padding_left
from pipeline_lib.models.parameter_depth import parameter_infos
from pipeline_lib.strategies import SoftPrompt
from pipeline_lib.training.batches import collate

P = [VIRTUAL, VIRTUAL - 1, VIRTUAL - 2]
DEPTHS = ["input", "all"]


def prompt(**fields):
    return SoftPrompt(kind="prompt", **{"length": 3, **fields})


@pytest.fixture
def prompted(make, tokenizer):
    """prompted(family, fields): a model with random learned vectors, not only as they start."""

    def inject(family, **fields):
        model = make(family)
        prompt(**fields).inject(model, tokenizer)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith(".prompt"):
                    parameter.add_(torch.randn_like(parameter))
        return model

    return inject


def own(model):
    return {
        name: p for name, p in model.named_parameters() if prompt().is_trainable(parameter_infos(model, set())[name])
    }


def logits(model, ids, **more):
    with torch.no_grad():
        return model(input_ids=torch.tensor(ids), **more).logits


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_it_is_the_vectors_among_the_embeddings(prompted, family):
    model = prompted(family)
    table = model.get_input_embeddings()
    with torch.no_grad():
        by_hand = torch.cat([table.weight[[7]], table.prompt, table.weight[[8, 9]]])
        expected = model(inputs_embeds=by_hand[None]).logits
    torch.testing.assert_close(logits(model, [[7, *P, 8, 9]]), expected)


def test_text_without_virtual_tokens_is_read_as_ever(make, prompted):
    for depth in DEPTHS:
        assert torch.equal(logits(prompted("gpt2", depth=depth), [[7, 8]]), logits(make("gpt2"), [[7, 8]]))


def test_deep_vectors_take_the_places_of_what_the_layer_below_made(make, prompted):
    model, plain = prompted("bert", depth="all"), make("bert")
    vectors, (first, second) = list(own(model).values()), plain.bert.encoder.layer
    with torch.no_grad():
        table = plain.bert.embeddings.word_embeddings.weight
        embedded = torch.cat([table[[1]], vectors[0], table[[8, 2]]])[None]
        hidden = first(plain.bert.embeddings(inputs_embeds=embedded))
        hidden[0, 1:4] = vectors[1]
        expected = plain.classifier(plain.bert.pooler(second(hidden)))
    torch.testing.assert_close(logits(model, [[1, *P, 8, 2]]), expected)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_deep_vectors_start_as_what_a_decoder_makes_of_the_first_ones(make, tokenizer, family):
    outs = []
    for depth in DEPTHS:
        model = make(family)
        prompt(depth=depth).inject(model, tokenizer)
        outs.append(logits(model, [[*P, 8, 9]]))
    torch.testing.assert_close(outs[0], outs[1])


def test_one_parameter_a_layer_each_in_its_depth(prompted):
    names = {
        "bert": {"bert.embeddings.word_embeddings.prompt": 0, "bert.encoder.layer.1.prompt": 2},
        "distilbert": {"distilbert.embeddings.word_embeddings.prompt": 0, "distilbert.transformer.layer.1.prompt": 2},
        "gpt2": {"transformer.wte.prompt": 0, "transformer.h.1.prompt": 2},
        "llama": {"model.embed_tokens.prompt": 0, "model.layers.1.prompt": 2},
        "t5": {
            "encoder.embed_tokens.prompt": 0,
            "encoder.block.1.prompt": 2,
            "decoder.embed_tokens.prompt": 0,
            "decoder.block.1.prompt": 4,
        },
    }
    for family, expected in names.items():
        model = prompted(family, depth="all")
        assert {name: parameter_infos(model, set())[name].depth for name in own(model)} == expected
        assert [*own(prompted(family))] == [*expected][:1]


def test_an_encoder_decoder_has_deep_prompts_on_both_sides(prompted):
    model = prompted("t5", depth="all")
    model(input_ids=torch.tensor([[*P, 8, 2]]), decoder_input_ids=torch.tensor([[0, *P, 9]])).logits.sum().backward()
    vectors = own(model)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in vectors.values())
    before = logits(model, [[*P, 8, 2]], decoder_input_ids=torch.tensor([[0, *P, 9]]))
    for parameter in vectors.values():
        original = parameter.data.clone()
        parameter.data += 1.0
        after = logits(model, [[*P, 8, 2]], decoder_input_ids=torch.tensor([[0, *P, 9]]))
        assert not torch.allclose(after[:, -1], before[:, -1], atol=1e-4)
        parameter.data = original


def test_a_classifier_whose_decoder_reads_the_input_again_knows_its_virtual_tokens(prompted):
    model = prompted("t5_classifier")
    assert [*own(model)] == ["transformer.encoder.embed_tokens.prompt"]
    assert logits(model, [[*P, 8, 2], [*P, 9, 2]]).isfinite().all()


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_writing_with_a_cache_is_greedy_decoding(prompted, family, depth):
    model, ids = prompted(family, depth=depth), [[*P, 8, 9]]
    for _ in range(6):
        ids = [[*ids[0], int(logits(model, ids)[0, -1].argmax())]]
    given = {"input_ids": torch.tensor([[*P, 8, 9]]), "attention_mask": torch.ones(1, 5, dtype=torch.long)}
    out = model.generate(**given, do_sample=False, max_new_tokens=6, eos_token_id=None, pad_token_id=0)
    assert out.tolist() == ids


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_batch_padded_on_the_left_writes_what_each_row_writes_alone(prompted, family, depth):
    model, options = prompted(family, depth=depth), {"do_sample": False, "max_new_tokens": 5, "eos_token_id": None}
    encoded = Examples(Ragged.from_lists([[8, 9], [10, 11, 12, 13]]), np.zeros(2, np.int64))
    encoded = encoded.insert_prompt(*prompt(depth=depth).prompt(), first=1, last=2)
    together = model.generate(**move_padding_left(collate(encoded, [0, 1], 0)[0]), **options, pad_token_id=0)
    for row in (0, 1):
        alone = model.generate(**collate(encoded, [row], 0)[0], **options, pad_token_id=0)
        assert together[row, -5:].tolist() == alone[0, -5:].tolist()


@pytest.mark.parametrize("beams", [1, 3])
def test_an_encoder_decoder_writes_after_its_deep_prompt(prompted, beams):
    model, source, begun = prompted("t5", depth="all"), torch.tensor([[*P, 8, 2]]), torch.tensor([[0, *P]])
    options = {"do_sample": False, "max_new_tokens": 5, "num_beams": beams, "eos_token_id": None, "pad_token_id": 0}
    with_cache = model.generate(source, decoder_input_ids=begun, **options)
    without = model.generate(source, decoder_input_ids=begun, **options, use_cache=False)
    assert with_cache.tolist() == without.tolist()
    assert with_cache[:, :4].tolist() == begun.tolist()
    if beams == 1:
        for _ in range(5):
            step = logits(model, source.tolist(), decoder_input_ids=begun)[:, -1].argmax(-1, keepdim=True)
            begun = torch.cat([begun, step], 1)
        assert with_cache.tolist() == begun.tolist()


@pytest.mark.parametrize("position", ["before", "after"])
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_padded_batch_reads_each_row_as_if_alone(prompted, family, depth, position):
    texts = Ragged.from_lists([[1, 7, 2], [1, 8, 9, 10, 11, 2], [1, 12, 13, 2]])
    put = prompt(depth=depth, position=position).prompt()
    encoded = Examples(texts, np.zeros(3, np.int64)).insert_prompt(*put, first=1, last=2)
    model = prompted(family, depth=depth, position=position)
    with torch.no_grad():
        together = model(**collate(encoded, [0, 1, 2], 0)[0]).logits
        for row in range(3):
            alone = model(**collate(encoded, [row], 0)[0]).logits[0]
            of_batch = together[row][: len(alone)] if family == "gpt2" else together[row]
            torch.testing.assert_close(of_batch, alone, atol=1e-5, rtol=1e-4)


def test_it_starts_as_its_text_repeated(make, tokenizer):
    model = make("bert")
    prompt(init="text", init_text="w5 w6").inject(model, tokenizer)
    table = model.bert.embeddings.word_embeddings
    assert torch.equal(table.prompt, table.weight[[5, 6, 5]])


def test_it_starts_as_words_of_the_vocabulary(make, tokenizer):
    model = make("bert")
    prompt(length=30).inject(model, tokenizer)
    table = model.bert.embeddings.word_embeddings
    drawn = {int((table.weight == vector).all(-1).nonzero()) for vector in table.prompt}
    assert drawn <= set(range(4, 40))  # no special token
    assert len(drawn) > 10


def test_it_starts_at_random_as_spread_as_the_embeddings(make, tokenizer):
    model = make("bert")
    prompt(length=40, init="random").inject(model, tokenizer)
    table = model.bert.embeddings.word_embeddings
    assert 0.8 < (table.prompt.detach().std() / table.weight.detach().std()).item() < 1.2


def test_its_rate_is_its_own(make, tokenizer):
    model, strategy = make("bert"), prompt(rate=30.0)
    strategy.inject(model, tokenizer)
    scale = {name: strategy.lr_scale(place) for name, place in parameter_infos(model, set()).items()}
    assert scale.pop("bert.embeddings.word_embeddings.prompt") == 30.0
    assert set(scale.values()) == {1.0}
    assert strategy.head_lr_scale() == 30.0


def test_a_copy_has_vectors_of_its_own(prompted):
    model = prompted("bert", depth="all")
    before, copied = logits(model, [[1, *P, 8, 2]]), copy.deepcopy(model)
    assert torch.equal(logits(copied, [[1, *P, 8, 2]]), before)
    for parameter in own(copied).values():
        parameter.data += 1.0
    assert not torch.allclose(logits(copied, [[1, *P, 8, 2]]), before)
    assert torch.equal(logits(model, [[1, *P, 8, 2]]), before)


def test_a_prompt_that_leaves_no_room_is_refused(make, tokenizer):
    with pytest.raises(
        RecipeError, match="adds 48 virtual tokens, but the model can only read 48 tokens. Set a smaller"
    ):
        prompt(length=48).inject(make("bert"), tokenizer)


@pytest.mark.parametrize("fields", [{"init": "text"}, {"init_text": "w5"}, {"length": 0}, {"length": 201}])
def test_what_makes_no_sense_is_refused(fields):
    with pytest.raises(ValidationError):
        prompt(**fields)
