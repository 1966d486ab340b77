"""Dialogues as people store them: names of roles and fields, nested, spelled as text, with tools and system prompts."""

import json

import numpy as np
import pytest
from chat_templates import TEMPLATES, byte_tokenizer, encoded

from pipeline_lib.data.sources.base import Row
from pipeline_lib.objectives import CausalLM
from pipeline_lib.objectives.messages import dialogue, exchange, tools_of

ASKED, ANSWERED = {"role": "user", "content": "what"}, {"role": "assistant", "content": "a fine day"}
CHAT = [ASKED, ANSWERED]
SYSTEM = {"role": "system", "content": "be kind"}
FUNCTION = {"name": "weather", "arguments": {"city": "Oslo"}}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
OBJECTIVE = CausalLM(kind="causal_lm")


def turns(asks, answers, who="role", what="content"):
    return [{who: asks, what: "what"}, {who: answers, what: "a fine day"}]


@pytest.mark.parametrize(
    "messages",
    [
        turns("Human", "GPT", "from", "value"),
        turns("USER", "Assistant "),
        turns("prompter", "assistant"),
        turns("human", "ai"),
        turns("user", "bing", "from", "value"),
        turns("User", "Chatbot", "speaker", "text"),
        turns("user", "assistant", "role", "text"),
        turns("customer", "agent", "author"),
        {"id": 7, "turns": CHAT},
        {"data": {"conversation": CHAT}},
        {"messages": json.dumps(CHAT)},
        json.dumps({"conversations": CHAT}),
        repr(CHAT),  # as pandas writes lists into CSV files
        np.array(CHAT, dtype=object),
        [json.dumps(message) for message in CHAT],
        ["what", "a fine day"],
        [ASKED, {"role": "assistant", "content": {"type": "text", "text": "a fine day"}}],
        [ASKED | {"content": ["what"]}, ANSWERED],
        [ASKED, ANSWERED | {"weight": float("nan")}],
    ],
)
def test_dialogues_of_other_makers_are_read(messages):
    assert dialogue(messages) == CHAT


@pytest.mark.parametrize("spell", [json.dumps, repr, lambda value: np.array(value, dtype=object), list])
def test_prompts_and_answers_that_are_messages_are_read_however_they_are_spelled(spell):
    assert exchange({"prompt": spell([ASKED]), "answer": spell([ANSWERED])}) == CHAT


@pytest.mark.parametrize("answer", ['[{"name": "x"}]', '{"role": "admin"}', '[{"role": "admin"}]', "[1, 2]", "{x"])
def test_an_answer_that_is_json_but_no_message_stays_a_text(answer):
    assert exchange({"prompt": "what", "answer": answer}) == [ASKED, {"role": "assistant", "content": answer}]


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"prompt": "what", "input": "", "answer": "a fine day"}, CHAT),
        ({"prompt": "what", "input": "  ", "answer": "a fine day"}, CHAT),
        ({"prompt": "what", "input": float("nan"), "answer": "a fine day"}, CHAT),
        ({"prompt": "what", "system": None, "answer": "a fine day"}, CHAT),
        ({"prompt": "what", "answer": 0}, [ASKED, ANSWERED | {"content": "0"}]),
        (
            {"prompt": "what", "system": "be kind", "answer": "a fine day"},
            [SYSTEM, *CHAT],
        ),
        ({"messages": CHAT, "system": "be kind"}, [SYSTEM, *CHAT]),
        (
            {"messages": [{"role": "system", "content": "be brief"}, *CHAT], "system": "be kind"},
            [{"role": "system", "content": "be brief"}, *CHAT],
        ),
    ],
)
def test_inputs_and_system_prompts_may_be_missing(row, messages):
    assert OBJECTIVE.clean(row) == {"messages": messages}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": None, "answer": "a fine day"}, "empty prompt"),
        ({"prompt": " \n", "answer": "a fine day"}, "empty prompt"),
        ({"prompt": [], "answer": "a fine day"}, "empty prompt"),
        ({"prompt": "what", "answer": " "}, "no assistant message"),
        ({"prompt": "what", "answer": float("nan")}, "no assistant message"),
        ({"prompt": "what", "answer": True}, "answer is true or false"),
        ({"prompt": "what", "answer": {"a": 1}}, "answer is an object"),
        ({"prompt": "what \ud83d", "answer": "a fine day"}, "lone surrogate"),
        ({"messages": json.dumps([ASKED, ANSWERED | {"content": "\ud83d"}])}, "lone surrogate"),
        ({"messages": turns("narrator", "hero")}, r"no assistant message is trained on \(roles: hero, narrator\)"),
    ],
)
def test_rows_that_cannot_be_used_say_why(row, reason):
    with pytest.raises(ValueError, match=reason):
        OBJECTIVE.clean(row)


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": None, "function_call": FUNCTION | {"arguments": '{"city": "Oslo"}'}},
        {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": FUNCTION}]},
        {"role": "assistant", "tool_calls": [FUNCTION]},
        {"role": "assistant", "content": "", "tool_calls": json.dumps([{"id": None, "function": FUNCTION}])},
    ],
)
def test_calls_are_read_in_all_common_formats(message):
    reply = {"role": "function", "name": "weather", "content": {"degrees": -3}}
    text, runs, _ = encoded(byte_tokenizer(TEMPLATES["qwen3-thinking"]), [ASKED, message, reply, ANSWERED])
    assert runs[0] == '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call><|im_end|>'
    assert '<|im_start|>tool\n{"degrees": -3}<|im_end|>' in text


@pytest.mark.parametrize(
    "spell", [list, json.dumps, repr, lambda tools: [json.dumps(tools[0])], lambda tools: tools[0]]
)
def test_tools_are_read_however_they_are_spelled(spell):
    assert tools_of(spell(TOOLS)) == TOOLS


def test_a_served_model_reads_the_tools_and_system_prompts_that_it_was_trained_on(document):
    from pipeline_lib.recipe.schema import check

    document["objective"] = {"kind": "causal_lm"}
    document["data"]["columns"] = {"messages": "messages", "tools": "tools", "system": "system"}
    recipe = check(document)
    input_roles = recipe.objective.input_roles_for(recipe.data.columns)
    tokenizer = byte_tokenizer("{{ tools | length }}" + TEMPLATES["chatml"])
    row = {"prompt": "what", "system": "be kind", "tools": TOOLS}
    served = recipe.objective.read_input(tokenizer, recipe.objective.clean_input(row, input_roles))
    text = tokenizer.decode(recipe.objective.encode(tokenizer, [served])["input_ids"][0])
    assert text == "1<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\nwhat<|im_end|>\n<|im_start|>assistant\n"


def test_columns_can_be_keys_of_objects_in_another_column():
    row = Row(1, {"data": {"chat": {"messages": CHAT}}, "a.b": 1, "text": "x"})
    assert row.get("data.chat.messages") == CHAT
    assert row.get("a.b") == 1
    assert row.get("data.chat.other") is None
    assert row.get("text.length") is None
