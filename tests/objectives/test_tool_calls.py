"""Calls of tools in chat templates: the call is learned from its beginning to its end, and never a tool's reply."""

import json

import pytest
from chat_templates import byte_tokenizer, encoded

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
CALL = {"id": "call00001", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
REPLY = {"role": "tool", "tool_call_id": "call00001", "name": "weather", "content": "minus 3"}
ASKED, ANSWERED = {"role": "user", "content": "weather in Oslo"}, {"role": "assistant", "content": "cold"}
LATER = [{"role": "user", "content": "thanks"}, {"role": "assistant", "content": "welcome"}]

CALLS = "{% for c in m.tool_calls %}<tool_call>{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}"
TEMPLATES = {
    # breaks on a message without content
    "content-needed": "{% for m in messages %}<|im_start|>{{ m.role + '\n' + m.content }}{% if m.tool_calls %}"
    + CALLS
    + "{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    # wants arguments as JSON text
    "json-arguments": "{% for m in messages %}<|im_start|>{{ m.role + '\n' }}{% if m.tool_calls %}"
    "{% for c in m.tool_calls %}{{ '<tool_call>' + c.function.name + c.function.arguments }}{% endfor %}"
    "{% else %}{{ m.content }}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    # the next answer's header always follows, so that no text so far begins the whole; other tokens end a call
    "header-at-the-end": "{% for m in messages %}<|start|><|{{ m.role }}|>{% if m.tool_calls %}"
    + CALLS
    + "</tool_call><|end|>{% elif m.role == 'assistant' %}<|message|>{{ m.content }}<|eot_id|><|end|>{% else %}"
    "{{ m.content }}<|end|>{% endif %}{% endfor %}<|start|><|assistant|>"
    "{% if add_generation_prompt %}<|message|>{% endif %}",
    # the tools move before the last question, so that the text so far is not the beginning of the whole
    "tools-last": "{{ bos_token }}{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}"
    "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}{% for m in messages %}{% if m.role == 'user' %}"
    "{% if loop.index0 == ns.last and tools %}[TOOLS]{% for tool in tools %}{{ tool.function.name }}{% endfor %}"
    "[/TOOLS]{% endif %}[INST]{{ m.content }}[/INST]{% elif m.role == 'tool' %}[REPLY]{{ m.content }}[/REPLY]"
    "{% elif m.tool_calls %}"
    + CALLS
    + "{{ eos_token }}{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}",
    # the name of the called tool stands in the tool's reply again
    "named-reply": "{% for m in messages %}<|start|>{% if m.tool_calls %}assistant to="
    "{{ m.tool_calls[0].function.name }}<|message|>{{ m.tool_calls[0].function.arguments | tojson }}<|return|>"
    "{% elif m.role == 'tool' %}"
    "{{ messages[loop.index0 - 1].tool_calls[0].function.name }} to=assistant<|message|>{{ m.content }}<|end|>"
    "{% else %}{{ m.role }}<|message|>{{ m.content }}{{ '<|return|>' if loop.last else '<|end|>' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}",
    "marked": "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}"
    "{% if m.content is defined and m.content is not string %}{% for part in m.content %}{{ part.text }}{% endfor %}"
    "{% else %}{{ m.content }}{% endif %}{% if m.tool_calls %}"
    + CALLS
    + "{% endif %}<|im_end|>{% endgeneration %}\n{% else %}{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}",
}
ARGUMENTS = '{"city": "Oslo"}'
FIRST = {
    "header-at-the-end": f"<tool_call>weather{ARGUMENTS}</tool_call><|end|>",
    "tools-last": f"<tool_call>weather{ARGUMENTS}</s>",
    "named-reply": f" to=weather<|message|>{ARGUMENTS}<|return|>",
}


@pytest.mark.parametrize("more", [[], LATER])
@pytest.mark.parametrize("content", [None, ""])
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_call_is_learned_from_its_header_to_its_end(name, content, more):
    tokenizer = byte_tokenizer(TEMPLATES[name])
    messages = [ASKED, {"role": "assistant", "content": content, "tool_calls": [CALL]}, REPLY, ANSWERED, *more]
    _, runs, expected = encoded(tokenizer, messages, tools=TOOLS)
    assert len(runs) == 2 + len(more) // 2
    assert runs[0] == FIRST.get(name, f"<tool_call>weather{ARGUMENTS}<|im_end|>")
    assert not any(text in run for run in runs for text in ("minus 3", "weather in Oslo", "thanks"))
    assert expected == (more or [ANSWERED])[-1]["content"]


def test_the_text_beside_a_call_can_be_left_out_by_the_template():
    messages = [ASKED, {"role": "assistant", "content": "let me see", "tool_calls": [CALL]}, REPLY, ANSWERED]
    text, runs, _ = encoded(byte_tokenizer(TEMPLATES["tools-last"]), messages, tools=TOOLS)
    assert runs == [f"<tool_call>weather{ARGUMENTS}</s>", "cold</s>"]
    assert "let me see" not in text


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_text_is_the_templates_own(name):
    tokenizer = byte_tokenizer(TEMPLATES[name])
    arguments = ARGUMENTS if name == "json-arguments" else json.loads(ARGUMENTS)
    call = CALL | {"function": CALL["function"] | {"arguments": arguments}}
    messages = [ASKED, {"role": "assistant", "content": "", "tool_calls": [call]}, REPLY, ANSWERED]
    assert encoded(tokenizer, messages, tools=TOOLS)[0] == tokenizer.apply_chat_template(
        messages, tools=TOOLS, tokenize=False
    )
