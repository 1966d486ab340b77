"""What a chat template writes, and the tokens that a tokenizer adds to its vocabulary for it."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

GENERATION = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
"""The tags that mark what the model writes; transformers adds them to Jinja's own."""


def render_messages(
    tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Mapping[str, Any]], tools: Any, add_prompt: bool = False
) -> str:
    """The template's text; `add_prompt`: with its generation prompt."""
    try:
        return str(
            tokenizer.apply_chat_template(
                [dict(message) for message in messages], tools=tools, tokenize=False, add_generation_prompt=add_prompt
            )
        )
    except Exception as error:  # a template raises its own errors, and whatever its expressions happen to break
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"the chat template rejects the dialogue ({reason})") from None


def render_as_accepted(
    tokenizer: "PreTrainedTokenizerBase", messages: list[dict[str, Any]], tools: Any
) -> tuple[list[dict[str, Any]], str]:
    """Return the rendered text, and the messages in the form that the template accepts.

    Some templates fail on a tool call without content, others on arguments that are an object instead of JSON text.
    Raises ValueError if the template rejects every form.
    """
    problem = None
    for form in _forms(messages):
        try:
            return form, render_messages(tokenizer, form, tools)
        except ValueError as error:
            problem = problem or error
    raise problem or ValueError("no messages")


def _forms(messages: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    yield messages
    if not any(message.get("tool_calls") for message in messages):
        return
    with_content = [message | {"content": message.get("content") or ""} for message in messages]
    yield with_content
    yield [_with_json_arguments(message) for message in messages]
    yield [_with_json_arguments(message) for message in with_content]


def _with_json_arguments(message: dict[str, Any]) -> dict[str, Any]:
    calls = []
    for call in message.get("tool_calls") or []:
        function = dict(call["function"])
        if not isinstance(function["arguments"], str):
            function["arguments"] = json.dumps(function["arguments"], ensure_ascii=False)
        calls.append(call | {"function": function})
    return message | ({"tool_calls": calls} if calls else {})


def render_with_marks(
    tokenizer: "PreTrainedTokenizerBase", messages: list[dict[str, Any]], tools: Any
) -> tuple[str, list[tuple[int, int]]] | None:
    """Return the text and the characters inside the template's generation marks; None if it has none."""
    from transformers.utils.chat_template_utils import render_jinja_template

    template = tokenizer.get_chat_template(tools=tools)
    if not GENERATION.search(template):
        return None
    names: Any = tokenizer.special_tokens_map
    # as apply_chat_template does, which does not give the characters: templates break on null fields
    given = [{name: value for name, value in message.items() if value is not None} for message in messages]
    rendered: Any = render_jinja_template(
        [given], tools, chat_template=template, return_assistant_tokens_mask=True, **names
    )
    (text,), (spans,) = rendered
    return text, spans


def render_or_none(
    tokenizer: "PreTrainedTokenizerBase", messages: list[dict[str, Any]], tools: Any, add_prompt: bool = False
) -> str | None:
    """Return the rendered messages, or None if the template rejects them without the others."""
    try:
        return render_messages(tokenizer, messages, tools, add_prompt)
    except ValueError:
        return None


def end_of_added_token(tokenizer: "PreTrainedTokenizerBase", text: str, place: int) -> int | None:
    """Return the end of the added token that follows a position, ignoring white space; None if there is none."""
    found = re.compile(rf"\s*(?:{added_tokens(tokenizer)})").match(text, place)
    return found.end() if found else None


def pieces(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[str]:
    """A text as added tokens and the single characters between them."""
    return re.findall(rf"{added_tokens(tokenizer)}|.", text, re.DOTALL)


def added_tokens(tokenizer: "PreTrainedTokenizerBase", special: bool = False) -> str:
    """The tokenizer's added tokens as a pattern, the longest first; `special`: those that decoding can leave out."""
    if special:
        known = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
        known |= set(tokenizer.all_special_tokens)
    else:
        known = {*tokenizer.get_added_vocab(), tokenizer.eos_token or ""}
    return _pattern(frozenset(token for token in known if token.strip()))


@lru_cache(maxsize=16)
def _pattern(tokens: frozenset[str]) -> str:
    return "|".join(map(re.escape, sorted(tokens, key=lambda token: (-len(token), token)))) or "(?!)"
