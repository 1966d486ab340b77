"""The text that a chat template adds around an answer: stop tokens, and text that is not part of the answer."""

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline_lib.objectives.dialogue import THOUGHT, locate_turns
from pipeline_lib.objectives.messages import Message
from pipeline_lib.objectives.template_text import added_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ANSWER = "Seven apples."
"""Occurs in no template's own text."""
PROBE: list[Message] = [{"role": "user", "content": "How many?"}, {"role": "assistant", "content": ANSWER}] * 2
TAG = re.compile(r"(<[^<>\s]+>|\[[^\[\]\s]+\])\s*$")


class TurnFrame(NamedTuple):
    """The text that a template adds before and after the content of a turn."""

    ends: frozenset[str] = frozenset()
    """The texts that end a turn."""
    last_tag: str = ""
    """The tag that ends what is put before the content, such as `</think>`."""
    lead: str = ""
    """What is put before the content without such a tag."""


def turn_frame(tokenizer: "PreTrainedTokenizerBase") -> TurnFrame:
    """From a dialogue of two turns, since templates end the last one differently than those before it."""
    if not tokenizer.chat_template:
        return TurnFrame()
    for messages in (PROBE, PROBE[:2]):
        try:
            text, turns = locate_turns(tokenizer, messages)
        except ValueError:  # a template that refuses plain messages says nothing of its ends
            continue
        ends = frozenset(text[turn.content + len(ANSWER) : turn.end].strip() for turn in turns) - {""}
        lead = text[turns[-1].start : turns[-1].content].strip()
        tag = TAG.search(lead)
        return TurnFrame(ends, last_tag=tag[1]) if tag else TurnFrame(ends, lead=lead)
    return TurnFrame()


def stops(tokenizer: "PreTrainedTokenizerBase", model: Any) -> dict[str, Any]:
    """`generate`'s settings by which it stops: all ends of the model's generation_config and of the tokenizer, and
    those that end a turn in the chat template."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    ids = {configured} if isinstance(configured, int) else set(configured or ())
    ids |= {tokenizer.eos_token_id} - {None}
    written = getattr(model.generation_config, "stop_strings", None)
    strings = [written] if isinstance(written, str) else list(written or ())
    for end in turn_frame(tokenizer).ends:
        found = tokenizer.encode(end, add_special_tokens=False)
        if len(found) == 1:
            ids.add(found[0])
        else:
            strings.append(end)
    settings: dict[str, Any] = {"eos_token_id": sorted(ids) or None}
    return settings | ({"stop_strings": sorted(strings)} if strings else {})


def answer_of(tokenizer: "PreTrainedTokenizerBase", frame: TurnFrame, text: str) -> str:
    """Return the answer in the text of a turn, without the template's text before it, the reasoning, and its end."""
    for end in frame.ends:
        if frame.last_tag and frame.last_tag in end:  # cut first, or the tag there would count as the one before
            text = text.partition(end)[0]
    if frame.last_tag and frame.last_tag in text:
        text = text[text.rindex(frame.last_tag) + len(frame.last_tag) :]
    if "</think>" in str(tokenizer.chat_template or "") or text.lstrip().startswith("<think>"):
        text = THOUGHT.sub("", text, count=1)
    text = text.lstrip().removeprefix(frame.lead)
    for end in frame.ends:
        text = text.partition(end)[0]
    return re.sub(added_tokens(tokenizer, special=True), "", text).strip()
