"""A dialogue's text in the tokenizer's chat template, and where in it the assistant's turns are.

Many templates rewrite earlier turns once another one follows, so the text of the first messages need not be the
beginning of the whole. Only the whole rendering is ever read, and the turns are located in it: by the template's own
generation marks where it has them, otherwise by marker characters around the answers in a second rendering, which
must be the same text once the markers are taken out.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline_lib.objectives.messages import Message, to_template_message
from pipeline_lib.objectives.template_text import (
    GENERATION,
    added_tokens,
    end_of_added_token,
    render_messages,
    render_or_none,
)
from pipeline_lib.objectives.turn_ends import FIRST_MARKER, Unclear, turn_end, usual_end

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MARKERS = re.compile("[\U000f0000-\U000ffffd]")
"""Private-use characters; those of answer i are the pair at 2i, before and after its content."""
THOUGHT = re.compile(r".*</think>\s*", re.DOTALL)


class Turn(NamedTuple):
    """Characters [start, end) of an assistant's turn: what the model has to write, its end token included.

    `content` is where the message's own content begins, after what the template puts before it.
    """

    message: int
    start: int
    end: int
    content: int


class Dialogue(NamedTuple):
    """The whole text, and the assistant's turns in it."""

    text: str
    turns: list[Turn]


def locate_turns(
    tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message], tools: Sequence[Any] | None = None
) -> Dialogue:
    """The text of a dialogue with its assistant's turns; raises ValueError where the template refuses it, or where a
    turn cannot be located for certain."""
    if not tokenizer.chat_template:
        return _join_messages(tokenizer, messages)
    plain = [to_template_message(message) for message in messages]
    text = render_messages(tokenizer, plain, tools)
    if MARKERS.search(text):
        raise ValueError("the text has private-use characters above U+F0000")
    turns = _find_turns_by_template(tokenizer, plain, tools, text)
    return Dialogue(text, turns if turns is not None else _find_turns_by_markers(tokenizer, plain, tools, text))


def prompt(
    tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message], tools: Sequence[Any] | None = None
) -> str:
    """The text up to where the next answer begins, the same that stands before such an answer in training."""
    following: Message = {"role": "assistant", "content": "."}
    text, turns = locate_turns(tokenizer, [*messages, following], tools)
    return text[: turns[-1].start]


def _join_messages(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message]) -> Dialogue:
    """Without a template: one message after another, the answers ended by the end-of-text token."""
    text, turns = tokenizer.bos_token or "", []
    for index, message in enumerate(messages):
        if message["content"] is None:
            raise ValueError("tool calls need a tokenizer with a chat template")
        start = len(text)
        text += message["content"] + ((tokenizer.eos_token or "") if message["role"] == "assistant" else "\n\n")
        if message["role"] == "assistant":
            turns.append(Turn(index, start, len(text), start))
    return Dialogue(text, turns)


def _answers(messages: Sequence[Mapping[str, Any]]) -> list[int]:
    return [index for index, message in enumerate(messages) if message["role"] == "assistant"]


def _find_turns_by_template(
    tokenizer: "PreTrainedTokenizerBase", messages: list[dict[str, Any]], tools: Any, text: str
) -> list[Turn] | None:
    """The turns by the template's generation marks; None where it has none, or not one around each answer."""
    from transformers.utils.chat_template_utils import render_jinja_template

    template = tokenizer.get_chat_template(tools=tools)
    if not GENERATION.search(template):
        return None
    names: Any = tokenizer.special_tokens_map
    rendered: Any = render_jinja_template(
        [messages], tools, chat_template=template, return_assistant_tokens_mask=True, **names
    )
    (again,), (spans,) = rendered
    answers = _answers(messages)
    if again != text or len(spans) != len(answers):
        return None
    turns = []
    for index, (start, end) in zip(answers, spans, strict=True):
        ended = re.search(rf"(?:{added_tokens(tokenizer)})$", text[start:end].rstrip())
        if not ended and (mark := end_of_added_token(tokenizer, text, end)):
            end = mark
        answer = THOUGHT.sub("", messages[index].get("content") or "", count=1).strip()
        content = text.find(answer, start, end)
        if content < 0:  # the template leaves out the answer, or changes it
            return None
        turns.append(Turn(index, start, end, content))
    return turns


def _find_turns_by_markers(
    tokenizer: "PreTrainedTokenizerBase", messages: list[dict[str, Any]], tools: Any, text: str
) -> list[Turn]:
    """The turns by marker characters; raises ValueError where a turn remains unclear."""
    answers, problem = _answers(messages), Unclear("the chat template's text does not show where the answers are")
    usual = usual_end(tokenizer)
    for after_thought in (False, True):  # templates move or drop what was thought, and a marker before it
        marked = list(messages)
        for number, index in enumerate(answers):
            marked[index] = _add_markers(messages[index], FIRST_MARKER + 2 * number, after_thought)
        try:
            found = _positions(render_messages(tokenizer, marked, tools), text)
            turns: list[Turn] = []
            for number, index in enumerate(answers):
                before = turns[-1].end if turns else 0
                opened, closed = (found.get(FIRST_MARKER + 2 * number + side) for side in (0, 1))
                if closed is None:
                    raise Unclear(f"the chat template leaves out answer {number + 1}, or changes it")
                start = _start(tokenizer, messages[:index], tools, text, (before, opened, closed))
                start = opened if start is None else start
                if start is None:
                    raise Unclear("the chat template's text does not show where an answer begins")
                end = turn_end(tokenizer, messages[: index + 1], tools, text, closed, usual)
                turns.append(Turn(index, start, end, max(start, closed if opened is None else opened)))
            return _include_spaces(text, turns)
        except ValueError as error:
            problem = error if isinstance(error, Unclear) else problem
    raise problem


def _add_markers(message: dict[str, Any], first: int, after_thought: bool) -> dict[str, Any]:
    """A message with a marker before and after its content, inside the white space that templates strip.

    The second one of a message that calls tools is at the name of its last call.
    """
    opening, closing = chr(first), chr(first + 1)
    content, calls = message["content"] or "", message.get("tool_calls")
    marked = dict(message)
    lead = len(content) - len(content.lstrip())
    if after_thought and (thought := THOUGHT.match(content)):
        lead = thought.end()
    if content.strip():
        last = len(content.rstrip())
        marked["content"] = content[:lead] + opening + content[lead:last] + ("" if calls else closing) + content[last:]
    elif not calls:
        marked["content"] = opening + closing
    if calls:
        functions = [dict(call["function"]) for call in calls]
        if not content.strip():
            functions[0]["name"] = opening + functions[0]["name"]
        functions[-1]["name"] += closing
        marked["tool_calls"] = [call | {"function": new} for call, new in zip(calls, functions, strict=True)]
    return marked


def _positions(marked: str, text: str) -> dict[int, int]:
    """Where each marker is in the text without markers; raises where the markers have changed anything else."""
    if MARKERS.sub("", marked) != text:
        raise Unclear("the chat template's text does not show where the answers are")
    found: dict[int, int] = {}
    for count, match in enumerate(MARKERS.finditer(marked)):
        at = match.start() - count
        opening = (ord(match[0]) - FIRST_MARKER) % 2 == 0
        found[ord(match[0])] = min(found.get(ord(match[0]), at), at) if opening else at
    return found


def _start(
    tokenizer: "PreTrainedTokenizerBase",
    before: list[dict[str, Any]],
    tools: Any,
    text: str,
    places: tuple[int, int | None, int],
) -> int | None:
    """Where the model begins to write: after the generation prompt; None where that is not to be seen.

    `places` are the end of the previous turn and the two markers'.
    """
    earliest, opened, closed = places
    content = closed if opened is None else opened
    prompted, without = render_or_none(tokenizer, before, tools, True), render_or_none(tokenizer, before, tools, False)
    added = prompted[len(without) :] if prompted and without is not None and prompted.startswith(without) else ""
    if prompted and text.startswith(prompted) and earliest <= len(prompted) <= content:
        # a template without a generation prompt lets the model write the turn's header, which is not learned
        if added or not text[len(prompted) : content].strip():
            return len(prompted)
    elif added.strip() and (at := text.rfind(added, earliest, content)) >= 0:
        return at + len(added)
    return None


def _include_spaces(text: str, turns: list[Turn]) -> list[Turn]:
    """Turns that begin with their content also get the space that the model has to write before it in other turns."""
    leads = {text[turn.start : turn.content] for turn in turns} - {""}
    lead = leads.pop() if len(leads) == 1 else ""
    if not lead or lead.strip():
        return turns
    return [
        turn._replace(start=turn.start - len(lead))
        if turn.start == turn.content and text.endswith(lead, 0, turn.start)
        else turn
        for turn in turns
    ]
