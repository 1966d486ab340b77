"""Dialogues as people store them, as one kind of list: OpenAI's messages, ShareGPT, prompt and answer."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow

Message = dict[str, Any]
"""`role` and `content` (None where an assistant only calls tools); `more` holds MORE's fields as JSON, if any."""

ROLES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "function_response": "tool",
}
"""ShareGPT's names, and those of its relatives; any other role is kept as it is."""
MORE = ("tool_calls", "tool_call_id", "name", "reasoning_content", "weight")
REASONING = ("reasoning_content", "reasoning", "thinking")
TEXT_PARTS = ("text", "input_text", "output_text")


def message_type() -> "pyarrow.DataType":
    """The Arrow type of a message."""
    import pyarrow as pa

    return pa.struct([("role", pa.string()), ("content", pa.string()), ("more", pa.string())])


def dialogue(value: Any) -> list[Message]:
    """A dialogue in any of the known formats; raises ValueError with the reason where it cannot be used."""
    value = _parse_json(value)
    if isinstance(value, Mapping):
        value = value.get("messages", value.get("conversations"))
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError("no messages")
    return [_message(_parse_json(message)) for message in value]


def exchange(row: Mapping[str, Any]) -> list[Message]:
    """A row of `prompt`, `input` and `answer`, as texts or lists of messages; the answer may be missing."""
    asked, answer = row.get("prompt"), row.get("answer")
    if is_messages(asked):
        messages = dialogue(asked)
    else:
        texts = [_text(row[role]) for role in ("prompt", "input") if row.get(role)]
        messages = [{"role": "user", "content": "\n".join(filter(None, texts))}]
    if is_messages(answer):
        return [*messages, *dialogue(answer)]
    return [*messages, {"role": "assistant", "content": _text(answer)}] if answer else messages


def up_to_last_answer(messages: Sequence[Message]) -> list[Message]:
    """Without what follows the last answer that is learned.

    Raises ValueError where no answer is learned.
    """
    learned = [index for index, message in enumerate(messages) if is_learned(message)]
    if not learned:
        raise ValueError("no message of the assistant is learned")
    return list(messages[: learned[-1] + 1])


def is_learned(message: Message) -> bool:
    """Whether a message is an answer whose weight is not zero."""
    return message["role"] == "assistant" and _more(message).get("weight", 1) != 0


def to_template_message(message: Message) -> dict[str, Any]:
    """A message with the fields that chat templates read."""
    more = {name: value for name, value in _more(message).items() if name != "weight"}
    return {"role": message["role"], "content": message["content"], **more}


def clean_tools(row: Mapping[str, Any]) -> dict[str, str]:
    """A row's tools as JSON, by their role; empty if it has none."""
    tools = tools_of(row.get("tools"))
    return {"tools": json.dumps(tools, ensure_ascii=False)} if tools else {}


def tools_of(value: Any) -> list[Any] | None:
    """A row's tools, as a list or as JSON; raises ValueError where they are neither."""
    tools = _parse_json(value)
    if tools is None or tools == "" or tools != tools:
        return None
    if not isinstance(tools, (list, tuple)) or not all(isinstance(tool, Mapping) for tool in tools):
        raise ValueError("tools is not a list of objects")
    return [_drop_nulls(tool) for tool in tools] or None


def _message(message: Any) -> Message:
    if not isinstance(message, Mapping):
        raise ValueError("a message lacks role or content")
    role = message.get("role") or message.get("from")
    if not role or not ({"content", "value"} & message.keys() or message.get("tool_calls")):
        raise ValueError("a message lacks role or content")
    role = ROLES.get(str(role), str(role))
    more = {name: message[name] for name in MORE if message.get(name) is not None}
    for name in REASONING:
        if message.get(name):
            more["reasoning_content"] = _text(message[name])
    if "tool_calls" in more:
        more["tool_calls"] = [_tool_call(call) for call in _parse_json(more["tool_calls"])]
    if not more.get("tool_calls"):
        more.pop("tool_calls", None)
    if more.get("weight", 1) not in (0, 1):
        raise ValueError(f"a message has the weight {more['weight']}, and only 0 and 1 are known")
    content = _text(message.get("content") if message.get("content") is not None else message.get("value"))
    if not (content or "").strip():
        if role == "assistant" and "tool_calls" not in more and more.get("weight", 1):
            raise ValueError(f"empty {role}")
        if role == "user":
            raise ValueError(f"empty {role}")
    known = {"role": role, "content": content if content is not None or "tool_calls" in more else ""}
    return known | ({"more": json.dumps(more, ensure_ascii=False)} if more else {})


def _tool_call(call: Any) -> dict[str, Any]:
    """A tool call with its arguments as an object: templates write them as JSON themselves."""
    if not isinstance(call, Mapping):
        raise ValueError("a tool call is not an object")
    call = _drop_nulls(call)
    function = dict(call.get("function") or {name: call[name] for name in ("name", "arguments") if name in call})
    if not isinstance(function.get("name"), str):
        raise ValueError("a tool call lacks its function's name")
    function["arguments"] = _parse_json(function.get("arguments", {}))
    return {"type": "function", **{name: call[name] for name in ("id",) if name in call}, "function": function}


def _text(content: Any) -> str | None:
    """Content as one text: parts and sentences of a list one after another."""
    if content is None or content != content:
        return None
    if not isinstance(content, (list, tuple)):
        return content if isinstance(content, str) else str(content)
    if all(isinstance(part, str) for part in content):
        return " ".join(content)
    texts = []
    for part in content:
        kind = part.get("type", "text") if isinstance(part, Mapping) else "text"
        text = part.get("text") if isinstance(part, Mapping) else part
        if kind not in TEXT_PARTS or not isinstance(text, str):
            raise ValueError(f"a message has a part of the type {kind!r}, and only text is read")
        texts.append(text)
    return "".join(texts)


def is_messages(value: Any) -> bool:
    """Whether a value is a list of messages, and no text."""
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(part, Mapping) for part in value)


def _parse_json(value: Any) -> Any:
    """JSON in a string as what it holds; anything else as it is."""
    if isinstance(value, str) and value.strip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _drop_nulls(value: Any) -> Any:
    """Without the null fields that a Parquet file gives every object."""
    if isinstance(value, Mapping):
        return {name: _drop_nulls(part) for name, part in value.items() if part is not None}
    return [_drop_nulls(part) for part in value] if isinstance(value, list) else value


def _more(message: Message) -> dict[str, Any]:
    return json.loads(message["more"]) if message.get("more") else {}
