"""Labels as words that a language model fills in, by family. `pytest tests/objectives`."""

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModel, AutoTokenizer

from pipeline_lib.data.examples import VIRTUAL
from pipeline_lib.errors import RecipeError
from pipeline_lib.evaluation.predictor import LoadedModel
from pipeline_lib.objectives.cloze import Cloze

PLACES = ["home", "town", "mill", "train", "sister"]
WORDS = [{"label": "glad", "words": ["sun", "song"]}, {"label": "sad", "words": ["rains"]}]
TEMPLATES = {"bert": "it is {mask} with {text}", "t5": "{text} it is {mask}", "gpt2": "{text} it is {mask}"}


def rows():
    texts = {"glad": ["fine day", "sweet song", "warm sun"], "sad": ["cold soup", "long wait", "lost game"]}
    return [
        {"text": f"{text} {place} {other}", "label": label}
        for label, texts_of_mood in texts.items()
        for text in texts_of_mood
        for place in PLACES
        for other in PLACES
    ]


def cloze(family="bert", words=WORDS):
    return Cloze(template=TEMPLATES[family], verbalizer=words)


@pytest.mark.parametrize(
    "more", [[], [{"kind": "prompt", "length": 4, "depth": "all", "rate": 50}]], ids=["full", "prompt"]
)
@pytest.mark.parametrize("family", TEMPLATES)
def test_it_is_learned_without_a_new_head(trained, family, more):
    objective, strategies = {"kind": "text_classification", "cloze": cloze(family).model_dump()}, [{"kind": "full"}]
    training = {"epochs": 6, "learning_rate": 1e-2, "batch_size": 16}
    outcome, scores = trained(rows(), family, objective, training=training, strategies=strategies + more)
    assert scores["accuracy"] > 0.9
    answers = LoadedModel(
        outcome.model.folder / "model", outcome.model.folder.parents[1] / "base" / _only_base(outcome)
    )
    answered = answers.answer([{"text": "sweet song home town"}, {"text": "cold soup mill mill"}])
    assert answered["prediction"] == ["glad", "sad"]


def _only_base(outcome):
    (base,) = (outcome.model.folder.parents[1] / "base").iterdir()
    return base.name


def test_its_scores_are_those_of_the_words_in_the_gap(tiny):
    tokenizer = AutoTokenizer.from_pretrained(tiny["bert"])
    model, head = cloze().model(str(tiny["bert"]), ["glad", "sad"])
    (ids,) = cloze().encode(tokenizer, [{"text": "cold soup"}], None)
    assert head == set()
    assert tokenizer.decode(ids) == "[CLS] it is [MASK] with cold soup [SEP]"
    batch = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
    with torch.inference_mode():
        logits = model.eval()(**batch).logits[0, 3]
        glad = torch.logsumexp(logits[tokenizer.convert_tokens_to_ids(["sun", "song"])], 0)
        sad = logits[tokenizer.convert_tokens_to_ids("rains")]
        torch.testing.assert_close(cloze().forward(model, batch)[0], torch.stack([glad, sad]))


def test_what_the_decoder_of_an_encoder_decoder_is_given(tiny):
    model, _ = cloze("t5").model(str(tiny["t5"]), ["glad", "sad"])
    seen, decoder = [], model.get_decoder()
    decoder.register_forward_pre_hook(lambda _, args, named: seen.append(named["input_ids"].tolist()), with_kwargs=True)
    cloze("t5").forward(model, {"input_ids": torch.tensor([[7, 8, 3]]), "attention_mask": torch.ones(1, 3)})
    assert seen == [[[0, model.cloze_mark]]]
    decoder.block[1].register_parameter("prompt", torch.nn.Parameter(torch.zeros(2, 32)))
    from pipeline_lib.objectives.cloze import _decoder_prefix

    ids = torch.tensor([[VIRTUAL, VIRTUAL - 1, 8, 3]])
    assert _decoder_prefix(model, ids).tolist() == [[0, VIRTUAL, VIRTUAL - 1, model.cloze_mark]]


def test_a_long_text_leaves_the_template_whole_and_a_mark_in_it_is_no_gap(tiny):
    tokenizer = AutoTokenizer.from_pretrained(tiny["bert"])
    long, marked = cloze().encode(tokenizer, [{"text": "soup " * 99}, {"text": "cold [MASK] soup"}], 20)
    assert len(long) <= 20
    for ids in (long, marked):
        assert ids[3] == tokenizer.mask_token_id
        assert ids.count(tokenizer.mask_token_id) == 1


@pytest.mark.parametrize(
    ("family", "words", "template", "problem"),
    [
        ("bert", [WORDS[0], {"label": "sour", "words": ["soup"]}], None, "has no word for 'sad'. Add {label: sad,"),
        ("bert", [WORDS[0], {"label": "sad", "words": ["cold soup"]}], None, "'cold soup' is 2 tokens, not one"),
        ("bert", [WORDS[0], {"label": "sad", "words": ["gloom"]}], None, "'gloom' is unknown to the base"),
        ("gpt2", WORDS, "{mask} is {text}", "continues after {mask}, but the tokenizer has no token for a gap"),
    ],
)
def test_what_cannot_be_asked_is_reported(tiny, family, words, template, problem):
    cloze = Cloze(template=template or TEMPLATES[family], verbalizer=words)
    with pytest.raises(RecipeError, match=problem):
        cloze.model(str(tiny[family]), ["glad", "sad"])
        cloze.encode(AutoTokenizer.from_pretrained(tiny[family]), [{"text": "cold soup"}], None)


def test_a_base_without_a_head_for_words_is_refused(tiny, tmp_path):
    AutoModel.from_pretrained(tiny["bert"]).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny["bert"]).save_pretrained(tmp_path)
    with pytest.raises(RecipeError, match="has no head that predicts words"):
        Cloze(template="{text} {mask}", verbalizer=WORDS).model(str(tmp_path), ["glad", "sad"])


@pytest.mark.parametrize("template", ["{text}", "{mask}", "{text} {mask} {mask}", "{text} {mood} {mask}"])
def test_a_template_without_its_slots_is_refused(template):
    with pytest.raises(ValidationError, match="template"):
        Cloze(template=template, verbalizer=WORDS)
