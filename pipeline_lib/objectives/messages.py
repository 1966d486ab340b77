"""Convert dialogues to one list format: from OpenAI messages, ShareGPT, or prompt and answer."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline_lib.objectives.message_values import content_of, drop_nulls, parse, parse_object, role_of
from pipeline_lib.objectives.values import is_list, is_missing, word_of

if TYPE_CHECKING:
    import pyarrow

Message = dict[str, Any]
"""`role` and `content` (None if an assistant only calls tools); `more` has the fields in MORE as JSON, if any."""

MORE = ("tool_calls", "tool_call_id", "name", "reasoning_content", "weight")
REASONING = ("reasoning_content", "reasoning", "thinking")
CONTENT = ("content", "value", "text")
SYSTEM = ("system", "developer")
WEIGHTS = {"0": 0, "1": 1}


def message_type() -> "pyarrow.DataType":
    """The Arrow type of a message."""
    import pyarrow as pa

    return pa.struct([("role", pa.string()), ("content", pa.string()), ("more", pa.string())])


def dialogue(value: Any) -> list[Message]:
    """Parse a dialogue in any known format; raises ValueError with the reason if it is unusable."""
    found = _find_list(parse("messages", value))
    if not found:
        raise ValueError("no messages")
    said = [parse_object("message", message) for message in found]
    if all(isinstance(text, str) for text in said):  # only texts, alternating between user and assistant
        said = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(said)]
    return [_message(message) for message in said]


def _find_list(value: Any) -> list[Any]:
    """Return the list of messages, which may be nested in an object; empty if there is none."""
    if is_list(value):
        return list(value)
    if not isinstance(value, Mapping):
        return []
    for name in ("messages", "conversations"):
        if name in value:
            return _find_list(parse(name, value[name]))
    lists = [found for part in value.values() if (found := _find_list(part)) and isinstance(found[0], Mapping)]
    return lists[0] if len(lists) == 1 else []


def exchange(row: Mapping[str, Any]) -> list[Message]:
    """Convert `prompt`, `input`, `system` and `answer` (texts or messages) to messages; only the prompt is required.

    Raises ValueError if the prompt is empty, or if a value is neither a text nor messages.
    """
    messages = parse_messages("prompt", row.get("prompt"))
    if messages is None:
        texts = [_given(role, row.get(role)) for role in ("prompt", "input")]
        messages = [{"role": "user", "content": "\n".join(filter(None, texts))}]
    if not any((message["content"] or "").strip() for message in messages):
        raise ValueError("empty prompt")
    answer = parse_messages("answer", row.get("answer"))
    if answer is None and (text := _given("answer", row.get("answer"))):
        answer = [{"role": "assistant", "content": text}]
    return [*with_system(messages, row.get("system")), *(answer or [])]


def with_system(messages: Sequence[Message], system: Any) -> list[Message]:
    """Put a system prompt before the messages, unless it is empty or they already have one."""
    text = _given("system", system)
    if not text or messages[0]["role"] in SYSTEM:
        return list(messages)
    return [{"role": "system", "content": text}, *messages]


def _given(role: str, value: Any) -> str:
    """Return a text; empty if it is only white space."""
    text = content_of(role, value) or ""
    return text if text.strip() else ""


def parse_messages(role: str, value: Any) -> list[Message] | None:
    """Return the messages in a value or in its JSON text; None if it has none."""
    parsed = parse(role, value)
    found = [parsed] if isinstance(parsed, Mapping) else parsed
    if not is_messages(found) or not role_of(found[0]):
        return None
    # JSON is a text like any other, unless it is messages
    if isinstance(value, str) and not all(role_of(message) and {*CONTENT} & message.keys() for message in found):
        return None
    return dialogue(found)


def up_to_last_answer(messages: Sequence[Message]) -> list[Message]:
    """Remove everything after the last answer that is trained on.

    Raises ValueError if there is no such answer.
    """
    learned = [index for index, message in enumerate(messages) if is_learned(message)]
    if not learned:
        roles = ", ".join(sorted({message["role"] for message in messages}))
        raise ValueError(f"no assistant message is trained on (roles: {roles})")
    return list(messages[: learned[-1] + 1])


def is_learned(message: Message) -> bool:
    """Return whether a message is an answer with a non-zero weight."""
    return message["role"] == "assistant" and _more(message).get("weight", 1) != 0


def to_template_message(message: Message) -> dict[str, Any]:
    """Convert a message to the fields that chat templates read."""
    more = {name: value for name, value in _more(message).items() if name != "weight"}
    return {"role": message["role"], "content": message["content"], **more}


def clean_tools(row: Mapping[str, Any]) -> dict[str, str]:
    """Return {"tools": JSON} of a row; empty if it has none."""
    tools = tools_of(row.get("tools"))
    return {"tools": json.dumps(tools, ensure_ascii=False)} if tools else {}


def tools_of(value: Any) -> list[Any] | None:
    """Return a row's tools from a list or its JSON; raises ValueError for anything else."""
    tools = parse("tools", value)
    if is_missing(tools) or tools == "":
        return None
    tools = [parse_object("tools", tool) for tool in (tools if is_list(tools) else [tools])]
    if not all(isinstance(tool, Mapping) for tool in tools):
        raise ValueError("tools is not a list of objects")
    return [drop_nulls(tool) for tool in tools] or None


def _message(message: Any) -> Message:
    role = role_of(message)
    names = [name for name in CONTENT if not is_missing(message.get(name))] if role else []
    call = message.get("function_call") if role else None  # OpenAI's name of it before `tool_calls`
    calls = message.get("tool_calls") or (None if is_missing(call) else [call]) if role else None
    if not role or not (names or calls or {*CONTENT} & message.keys()):
        raise ValueError("a message lacks role or content")
    more = _more_of(message, calls)
    content = content_of(role, message[names[0]]) if names else None
    needed = role == "user" or (role == "assistant" and "tool_calls" not in more and more.get("weight", 1))
    if needed and not (content or "").strip():
        raise ValueError(f"empty {role}")
    known = {"role": role, "content": content if content is not None or "tool_calls" in more else ""}
    return known | ({"more": word_of(role, json.dumps(more, ensure_ascii=False))} if more else {})


def _more_of(message: Mapping[str, Any], calls: Any) -> dict[str, Any]:
    """Return the fields of a message that are listed in MORE."""
    more = {name: message[name] for name in MORE if not is_missing(message.get(name))}
    more.pop("tool_calls", None)
    for name in REASONING:
        if message.get(name):
            more["reasoning_content"] = content_of(name, message[name])
    if found := parse("tool_calls", calls):
        more["tool_calls"] = [_tool_call(parse_object("tool_calls", call)) for call in found]
    weight = WEIGHTS.get(str(more.get("weight", 1)), more.get("weight", 1))
    if weight not in (0, 1):
        raise ValueError(f"a message has the weight {weight}, but it must be 0 or 1")
    return more | ({"weight": int(weight)} if "weight" in more else {})


def _tool_call(call: Any) -> dict[str, Any]:
    """A tool call with its arguments as an object: templates write them as JSON themselves."""
    if not isinstance(call, Mapping):
        raise ValueError("a tool call is not an object")
    call = drop_nulls(call)
    function = dict(call.get("function") or {name: call[name] for name in ("name", "arguments") if name in call})
    if not isinstance(function.get("name"), str):
        raise ValueError("a tool call lacks its function's name")
    function["arguments"] = parse("arguments", function.get("arguments", {}))
    return {"type": "function", **{name: call[name] for name in ("id",) if name in call}, "function": function}


def is_messages(value: Any) -> bool:
    """Return whether a value is a non-empty list of objects."""
    return is_list(value) and len(value) > 0 and all(isinstance(part, Mapping) for part in value)


def _more(message: Message) -> dict[str, Any]:
    return json.loads(message["more"]) if message.get("more") else {}
