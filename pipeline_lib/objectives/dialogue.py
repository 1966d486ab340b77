"""A dialogue's text in the tokenizer's chat template, and where in it the assistant's turns are.

Many templates rewrite earlier turns once another one follows, so the text of the first messages need not be the
beginning of the whole. Only the whole rendering is ever read, and the turns are located in it: by the template's own
generation marks where it has them, otherwise by marker characters around the answers in a second rendering, which
must be the same text once the markers are taken out.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline_lib.objectives.messages import Message, is_learned, to_template_message
from pipeline_lib.objectives.template_text import (
    added_tokens,
    end_of_added_token,
    render_as_accepted,
    render_messages,
    render_with_marks,
)
from pipeline_lib.objectives.turn_ends import FIRST_MARKER, MARKERS, Unclear, turn_end, usual_end
from pipeline_lib.objectives.turn_starts import Bounds, call_start, turn_start

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

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
    """The text of a dialogue with its assistant's turns but those of weight 0.

    Raises ValueError where the template refuses it, or where a turn cannot be located for certain.
    """
    if not tokenizer.chat_template:
        return _join_messages(tokenizer, messages)
    learned = [index for index, message in enumerate(messages) if is_learned(message)]
    plain, text = render_as_accepted(tokenizer, [to_template_message(message) for message in messages], tools)
    if MARKERS.search(text):
        raise ValueError("the text has private-use characters above U+F0000")
    turns = _find_turns_by_template(tokenizer, plain, tools, text)
    if turns is None:
        return Dialogue(text, _find_turns_by_markers(tokenizer, plain, learned, tools, text))
    return Dialogue(text, [turn for turn in turns if turn.message in learned])


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


def _find_turns_by_template(
    tokenizer: "PreTrainedTokenizerBase", messages: list[dict[str, Any]], tools: Any, text: str
) -> list[Turn] | None:
    """The turns by the template's generation marks; None where it has none, or not one around each answer."""
    answers = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    marked = render_with_marks(tokenizer, messages, tools)
    if marked is None or marked[0] != text or len(marked[1]) != len(answers):
        return None
    turns = []
    for index, (start, end) in zip(answers, marked[1], strict=True):
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
    tokenizer: "PreTrainedTokenizerBase", messages: list[dict[str, Any]], answers: list[int], tools: Any, text: str
) -> list[Turn]:
    """The turns of the messages `answers` by marker characters; raises ValueError where one remains unclear."""
    problem = Unclear("the chat template's text does not show where the answers are")
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
                opened, closed = (found.get(FIRST_MARKER + 2 * number + side, []) for side in (0, 1))
                if not closed:
                    raise Unclear(f"the chat template leaves out answer {number + 1}, or changes it")
                calls, content = messages[index].get("tool_calls"), (messages[index].get("content") or "").strip()
                # a template can write the name of a call again, in the tool's reply
                last = min(closed) if calls else max(closed)
                begun = Bounds(before, min([*opened, last]))
                start = turn_start(tokenizer, messages[:index], tools, text, begun)
                if start is None and calls:
                    start = call_start(tokenizer, messages, index, tools, text, begun)
                if start is None and (not opened or (calls and not content)):
                    raise Unclear("the chat template's text does not show where an answer begins")
                start = begun.latest if start is None else start
                end = turn_end(tokenizer, messages, index, tools, text, last, usual)
                turns.append(Turn(index, start, end, max(start, begun.latest)))
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
        functions[0]["name"] = opening + functions[0]["name"]
        functions[-1]["name"] += closing
        marked["tool_calls"] = [call | {"function": new} for call, new in zip(calls, functions, strict=True)]
    return marked


def _positions(marked: str, text: str) -> dict[int, list[int]]:
    """Where each marker is in the text without markers; raises where the markers have changed anything else."""
    if MARKERS.sub("", marked) != text:
        raise Unclear("the chat template's text does not show where the answers are")
    found: dict[int, list[int]] = {}
    for count, match in enumerate(MARKERS.finditer(marked)):
        found.setdefault(ord(match[0]), []).append(match.start() - count)
    return found


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
