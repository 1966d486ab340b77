"""Chat templates: what is read is their own text, and exactly the assistant's turns are learned."""

import random

import pytest
from chat_templates import ENDS, INSERTED, TEMPLATES, byte_tokenizer, encoded

from pipeline_lib.data.examples import IGNORED
from pipeline_lib.objectives import CausalLM
from pipeline_lib.objectives.turn_frame import answer_of, stops, turn_frame

WORDS = ["yes", "no", "42", "Assistant", "user", "naïve", "日本", "ok.", "\n\nnew line", "  ", "<b>", "{{ x }}", "🙂"]


def conversation(seed, system=False):
    """One to four exchanges; equal texts in questions and answers are likely."""
    draw = random.Random(seed)
    said = lambda: " ".join(draw.choices(WORDS, k=draw.randint(1, 4))).strip() or "yes"  # noqa: E731
    turns = draw.randint(1, 4)
    messages = [
        m for _ in range(turns) for m in ({"role": "user", "content": said()}, {"role": "assistant", "content": said()})
    ]
    return ([{"role": "system", "content": said()}] if system else []) + messages


@pytest.mark.parametrize("family", TEMPLATES)
@pytest.mark.parametrize("system", [False, True])
def test_the_text_is_the_templates_own_and_exactly_each_answer_is_learned(family, system):
    tokenizer = byte_tokenizer(TEMPLATES[family])
    if system and family in ("mistral", "gemma", "alpaca"):
        pytest.skip("the family has no system message")
    for seed in range(25):
        messages = conversation(seed, system)
        text, runs, expected = encoded(tokenizer, messages)
        assert text == tokenizer.apply_chat_template(messages, tokenize=False)
        answers = [message["content"] for message in messages if message["role"] == "assistant"]
        inserted, ends = INSERTED.get(family, ("", "")), ENDS.get(family, ("<|im_end|>",) * 2)
        places = [0] * (len(answers) - 1) + [1]
        assert runs == [inserted[p] + answer + ends[p] for p, answer in zip(places, answers, strict=True)]
        assert expected == answers[-1]


@pytest.mark.parametrize("family", ["mistral", "gemma"])
def test_a_system_message_that_the_template_rejects_is_the_reason(family):
    with pytest.raises(ValueError, match="the chat template rejects the dialogue"):
        encoded(byte_tokenizer(TEMPLATES[family]), conversation(0, system=True))


@pytest.mark.parametrize("family", ["qwen3-thinking", "gpt-oss"])
@pytest.mark.parametrize("inline", [False, True])
def test_thoughts_of_the_last_answer_are_learned_and_not_compared(family, inline):
    if inline and family == "gpt-oss":
        pytest.skip("its template knows no thoughts inside the content")
    answer = {"content": "<think>\nhm\n</think>\n\nblue"} if inline else {"content": "blue", "reasoning_content": "hm"}
    messages = [*conversation(3), {"role": "user", "content": "which"}, {"role": "assistant"} | answer]
    tokenizer = byte_tokenizer(TEMPLATES[family])
    text, runs, expected = encoded(tokenizer, messages)
    assert text == tokenizer.apply_chat_template(messages, tokenize=False)
    written = {
        "qwen3-thinking": "<think>\nhm\n</think>\n\nblue<|im_end|>",
        "gpt-oss": "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>blue<|return|>",
    }
    assert runs[-1] == written[family]
    assert expected == "blue"


def test_tool_calls_with_null_content_are_learned():
    tokenizer = byte_tokenizer(TEMPLATES["qwen3-thinking"])
    call = {"id": "1", "type": "function", "function": {"name": "convert", "arguments": '{"km": 45}'}}
    messages = [
        {"role": "user", "content": "45 km?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "28 miles", "tool_call_id": "1"},
        {"role": "assistant", "content": "28"},
    ]
    text, runs, expected = encoded(tokenizer, messages)
    assert runs[0] == '<tool_call>\n{"name": "convert", "arguments": {"km": 45}}\n</tool_call><|im_end|>'
    assert runs[1].endswith("28<|im_end|>")
    assert expected == "28"
    assert "28 miles" in text


def test_a_template_that_drops_an_answer_makes_the_row_unusable():
    tokenizer = byte_tokenizer(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content[:3] }}<|im_end|>\n{% endfor %}"
    )
    with pytest.raises(ValueError, match="answer"):
        encoded(tokenizer, [{"role": "user", "content": "which one"}, {"role": "assistant", "content": "the blue one"}])


def test_generation_marks_that_leave_out_an_answer_make_the_row_unusable():
    marked = "{% for m in messages %}{{ m.role }}:{% generation %}{{ m.content[:3] }}.{% endgeneration %}{% endfor %}"
    with pytest.raises(ValueError, match="answer"):
        encoded(
            byte_tokenizer(marked),
            [{"role": "user", "content": "which one"}, {"role": "assistant", "content": "the blue one"}],
        )


def test_only_the_last_answer_and_no_message_of_weight_zero():
    tokenizer = byte_tokenizer(TEMPLATES["chatml"])
    messages = [
        *conversation(1)[:2],
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "a", "weight": 1},
    ]
    assert encoded(tokenizer, messages, learn="last")[1] == ["a<|im_end|>"]
    messages[1]["weight"] = 0
    assert encoded(tokenizer, messages)[1] == ["a<|im_end|>"]


def test_a_message_of_weight_zero_can_be_empty():
    # a header without the line break of other turns, so that nothing shows where the answer would be
    tokenizer = byte_tokenizer(
        "{% for m in messages %}<|im_start|>{{ m.role }}{% if m.content %}\n{{ m.content }}<|im_end|>{% endif %}"
        "{% endfor %}"
    )
    messages = [*conversation(1)[:1], {"role": "assistant", "content": "", "weight": 0}, *conversation(1)[:2]]
    assert encoded(tokenizer, messages)[1] == [messages[-1]["content"] + "<|im_end|>"]


def test_what_a_template_writes_before_an_answer_without_a_tag_is_not_compared():
    tokenizer = byte_tokenizer(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}all\n{% endif %}{{ m.content }}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    _, runs, expected = encoded(tokenizer, conversation(1)[:2])
    assert runs == [f"all\n{expected}<|im_end|>"]
    assert expected == conversation(1)[1]["content"]


def test_thoughts_are_not_compared_under_a_template_that_knows_none():
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nblue"}]
    _, runs, expected = encoded(byte_tokenizer(TEMPLATES["chatml"]), messages)
    assert (runs, expected) == (["<think>\nhm\n</think>\n\nblue<|im_end|>"], "blue")


@pytest.mark.parametrize("family", TEMPLATES)
def test_a_prompt_that_is_served_is_what_stands_before_the_answer_in_training(family):
    tokenizer, objective = byte_tokenizer(TEMPLATES[family]), CausalLM(kind="causal_lm")
    served = objective.encode(tokenizer, [{"prompt": "which"}])["input_ids"][0]
    messages = [{"role": "user", "content": "which"}, {"role": "assistant", "content": "blue"}]
    columns = objective.encode(tokenizer, [{"messages": messages}])
    first = next(place for place, target in enumerate(columns["target_ids"][0]) if target != IGNORED)
    assert served == columns["input_ids"][0][:first]


@pytest.mark.parametrize("family", TEMPLATES)
def test_writing_stops_at_every_end_of_a_turn(family):
    from types import SimpleNamespace

    tokenizer = byte_tokenizer(TEMPLATES[family])
    configured = tokenizer.convert_tokens_to_ids(["<|return|>"])
    options = stops(tokenizer, SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=configured)))
    ends = {end.strip() for end in ENDS.get(family, ("<|im_end|>",))} - {""}
    known = {*tokenizer.convert_ids_to_tokens(options["eos_token_id"]), *options.get("stop_strings", [])}
    assert known == ends | {"</s>", "<|return|>"}


@pytest.mark.parametrize("family", TEMPLATES)
def test_what_the_template_inserts_is_not_part_of_the_answer(family):
    tokenizer = byte_tokenizer(TEMPLATES[family])
    earlier, last = ENDS.get(family, ("<|im_end|>",) * 2)
    written = INSERTED.get(family, ("", ""))[1] + "blue" + (last or earlier) + "\nmore"
    assert answer_of(tokenizer, turn_frame(tokenizer), written) == "blue"


def test_a_long_dialogue_loses_whole_turns_and_keeps_its_system_prompt():
    tokenizer = byte_tokenizer(TEMPLATES["chatml"])
    messages = [{"role": "system", "content": "Be kind."}]
    for number in range(6):
        messages += [{"role": "user", "content": f"Q{number}"}, {"role": "assistant", "content": f"A{number}"}]
    text, runs, _ = encoded(tokenizer, messages, max_length=90)
    expected = [messages[0], *messages[-2 * len(runs) :]]
    assert text == tokenizer.apply_chat_template(expected, tokenize=False)
    assert 1 < len(runs) < 6


@pytest.mark.parametrize("family", ["chatml", "llama3", "mistral-v3", "phi3"])
def test_a_question_that_is_too_long_by_itself_keeps_its_system_prompt_and_header(family):
    tokenizer = byte_tokenizer(TEMPLATES[family])
    answered = [{"role": "user", "content": "word " * 300 + "why"}, {"role": "assistant", "content": "so"}]
    messages = [{"role": "system", "content": "Be kind."}, *answered]
    text, runs, _ = encoded(tokenizer, messages, max_length=200)
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    head, end = whole.partition("word ")[0], whole[whole.index(" why") :]
    assert text.startswith(head) and text.endswith(end)
    assert len(runs) == 1 and runs[0].strip().startswith("so")
    assert len(tokenizer.encode(text, add_special_tokens=False)) <= 200


def test_an_answer_that_is_too_long_by_itself_leaves_room_for_its_question():
    tokenizer = byte_tokenizer(TEMPLATES["chatml"])
    messages = [{"role": "user", "content": "why"}, {"role": "assistant", "content": "word " * 300}]
    text, runs, _ = encoded(tokenizer, messages, max_length=200)
    assert text.startswith("<|im_start|>user\nwhy<|im_end|>\n<|im_start|>assistant\nword word")
    assert len(tokenizer.encode(text, add_special_tokens=False)) == 200
    assert text.endswith(runs[0]) and runs[0].startswith("word word")


@pytest.mark.parametrize("positions", [64, 200])
def test_prompts_leave_room_for_the_answer(positions):
    tokenizer = byte_tokenizer(TEMPLATES["chatml"])
    tokenizer.model_max_length = positions
    objective = CausalLM(kind="causal_lm")
    messages = [{"role": "user", "content": "word " * 300}, {"role": "assistant", "content": "blue"}]
    columns = objective.encode(tokenizer, [{"messages": messages}])
    first = next(place for place, target in enumerate(columns["target_ids"][0]) if target != IGNORED)
    assert first + min(128, positions // 2) <= positions
    assert tokenizer.decode(columns["input_ids"][0]).endswith("<|im_start|>assistant\nblue<|im_end|>\n")
    assert len(objective.encode(tokenizer, [{"prompt": "word " * 300}])["input_ids"][0]) == first
