"""Instructions and dialogues: the loss on answers alone, chat templates, what is written. `pytest tests/objectives`."""

import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from transformers import AutoTokenizer

from pipeline_lib.data.examples import IGNORED, Examples, Ragged
from pipeline_lib.evaluation.predictor import LoadedModel
from pipeline_lib.objectives import CausalLM

OBJECTIVE = CausalLM(kind="causal_lm")
TEXTS = ["fine day", "sweet song", "cold soup", "long wait", "warm sun"]
PLACES = ["home", "town", "mill", "train", "sister"]
TEMPLATE = (
    "{% for m in messages %}[CLS] {{ m['content'] }} [SEP] {% endfor %}{% if add_generation_prompt %}[CLS] {% endif %}"
)
DIALOGUE = [
    {"role": "user", "content": "what"},
    {"role": "assistant", "content": "a fine day"},
    {"role": "user", "content": "again"},
    {"role": "assistant", "content": "the sun"},
]


def rows():
    return [
        {"prompt": f"{text} {place}", "input": other, "answer": place}
        for text in TEXTS
        for place in PLACES
        for other in TEXTS
    ]


def learned(tokenizer, messages):
    """The text that is learned, and the whole."""
    columns = OBJECTIVE.encode(tokenizer, [{"messages": messages}])
    (ids,), (targets,) = columns["input_ids"], columns["target_ids"]
    assert all(target in (IGNORED, token) for token, target in zip(ids, targets, strict=True))
    return tokenizer.decode([t for t in targets if t != IGNORED]), tokenizer.decode(ids)


def test_only_answers_are_learned(tiny):
    tokenizer = AutoTokenizer.from_pretrained(tiny["llama"])
    text, whole = learned(tokenizer, DIALOGUE[:2])
    assert (text, whole) == ("a fine day [SEP]", "[CLS] what a fine day [SEP]")


def test_every_answer_of_a_dialogue_is_learned_in_the_tokenizers_own_template(tiny):
    tokenizer = AutoTokenizer.from_pretrained(tiny["llama"])
    tokenizer.chat_template = TEMPLATE
    text, whole = learned(tokenizer, DIALOGUE)
    assert text == "a fine day [SEP] the sun [SEP]"
    assert whole == "[CLS] what [SEP] [CLS] a fine day [SEP] [CLS] again [SEP] [CLS] the sun [SEP]"


def test_what_is_asked_ends_where_the_last_answer_begins():
    ids = Ragged.from_lists([[1, 2, 3, 4, 5], [6, 7]])
    targets = Ragged.from_lists([[IGNORED, 2, IGNORED, 4, 5], [IGNORED, 7]])
    prompts = OBJECTIVE.generation_inputs(Examples(ids, targets, aligned=True))
    assert [prompts.ids[row].tolist() for row in (0, 1)] == [[1, 2, 3], [6]]


def test_a_long_dialogue_loses_its_beginning(tiny):
    tokenizer = AutoTokenizer.from_pretrained(tiny["llama"])
    short = CausalLM(kind="causal_lm", max_length=4)
    columns = short.encode(tokenizer, [{"messages": DIALOGUE[:2]}])
    assert tokenizer.decode(columns["input_ids"][0]) == "a fine day [SEP]"
    assert columns["target_ids"][0][0] == IGNORED


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "no messages"),
        ([{"role": "user", "content": "x"}], "no assistant message is trained on"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}], "type 'image_url'"),
        ("not JSON", "no messages"),
        ([{"role": "assistant"}], "lacks role or content"),
    ],
)
def test_rows_that_cannot_be_used_say_why(messages, reason):
    with pytest.raises(ValueError, match=reason):
        OBJECTIVE.clean({"messages": messages})


@pytest.mark.parametrize(("family", "packing"), [("gpt2", False), ("llama", True)])
def test_answers_are_learned_and_written(trained, family, packing, document, caplog):
    caplog.set_level("INFO", "tunesmith")
    outcome, scores = trained(
        rows(),
        family,
        {"kind": "causal_lm", "max_answer": 4},
        columns={"input": "input"},
        training={"epochs": 12, "learning_rate": 1e-2, "packing": packing},
    )
    assert scores["perplexity"] < 1.5
    assert scores["exact_match"] > 0.7
    predictions = pq.read_table(outcome.scores.folder / "predictions.parquet").to_pylist()
    requests = [{"prompt": row["messages"][0]["content"]} for row in predictions]
    answers = LoadedModel(outcome.model.folder / "model").answer(requests)
    assert answers["prediction"] == [row["prediction"] for row in predictions]
    written = outcome.scores.made["generation"]
    assert len(predictions) <= written["tokens"] <= 4 * len(predictions)
    assert f"{written['tokens']:,} tokens generated" in caplog.text
    if family != "gpt2":  # the other one is not published
        return
    evaluation = re.search(r"[0-9a-f]{32}", outcome.published["evaluation"])[0]
    metrics = MlflowClient(document["execution"]["tracking_uri"]).get_run(evaluation).data.metrics
    assert metrics["total/generated_tokens_per_second"] == pytest.approx(written["tokens"] / written["seconds"])


def test_perplexity_is_of_the_answers_tokens_alone(tiny):
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer, model = AutoTokenizer.from_pretrained(tiny["gpt2"]), AutoModelForCausalLM.from_pretrained(tiny["gpt2"])
    columns = OBJECTIVE.encode(tokenizer, [{"messages": DIALOGUE[:2]}])
    ids, targets = (torch.tensor(columns[name]) for name in ("input_ids", "target_ids"))
    with torch.inference_mode():
        outputs = OBJECTIVE.outputs(model.eval(), {"input_ids": ids}, targets)
        ((nll, tokens),) = OBJECTIVE.collect(outputs, targets)
        expected = model(input_ids=ids, labels=targets).loss  # transformers' own shift
    assert tokens == (np.array(columns["target_ids"]) != IGNORED).sum()
    assert nll / tokens == pytest.approx(expected.item(), rel=1e-5)


CHAT = [{"role": "user", "content": "what"}, {"role": "assistant", "content": "a fine day"}]


@pytest.mark.parametrize(
    "messages",
    [
        json.dumps(CHAT),
        {"messages": CHAT},
        [{"from": "human", "value": "what"}, {"from": "gpt", "value": "a fine day"}],
        [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in CHAT],
        [*CHAT, {"role": "user", "content": "and now"}],
        [{**m, "tool_calls": None, "weight": None} for m in CHAT],  # as Parquet files have them
    ],
)
def test_dialogues_are_read_in_all_common_formats(messages):
    assert OBJECTIVE.clean({"messages": messages}) == {"messages": CHAT}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "what", "answer": "a fine day"},
        {"prompt": CHAT[:1], "answer": CHAT[1:]},
        {"prompt": CHAT[:1], "answer": "a fine day"},
        {"prompt": "what", "input": None, "answer": CHAT[1:]},
    ],
)
def test_prompts_and_completions_are_texts_or_messages(row):
    assert OBJECTIVE.clean(row) == {"messages": CHAT}


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_long_prompts_leave_room_for_the_answer(trained, family):
    long = [row | {"prompt": f"{row['prompt']} " * 60} for row in rows()]
    outcome, _ = trained(long, family, {"kind": "causal_lm"}, training={"epochs": 1})  # 64 positions, 128 to write
    assert len(pq.read_table(outcome.scores.folder / "predictions.parquet")) > 0
