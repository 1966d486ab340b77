"""Where an assistant's turn begins in a chat template's text: where the model begins to write."""

from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline_lib.objectives.template_text import pieces, render_or_none
from pipeline_lib.objectives.turn_ends import FIRST_MARKER

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Bounds(NamedTuple):
    """Where a turn begins at the earliest, behind the previous one, and at the latest, at its content or first call."""

    earliest: int
    latest: int


def turn_start(
    tokenizer: "PreTrainedTokenizerBase", before: list[dict[str, Any]], tools: Any, text: str, bounds: Bounds
) -> int | None:
    """Behind the generation prompt that follows the messages `before`; None where that is not to be seen."""
    earliest, latest = bounds
    prompted, without = render_or_none(tokenizer, before, tools, True), render_or_none(tokenizer, before, tools, False)
    added = prompted[len(without) :] if prompted and without is not None and prompted.startswith(without) else ""
    if prompted and text.startswith(prompted) and earliest <= len(prompted) <= latest:
        # a template without a generation prompt lets the model write the turn's header, which is not learned
        if added or not text[len(prompted) : latest].strip():
            return len(prompted)
    elif added.strip() and (at := text.rfind(added, earliest, latest)) >= 0:
        return at + len(added)
    return None


def call_start(
    tokenizer: "PreTrainedTokenizerBase",
    messages: list[dict[str, Any]],
    index: int,
    tools: Any,
    text: str,
    bounds: Bounds,
) -> int | None:
    """Return the end of the header of a turn that calls tools: the part that it shares with a plain answer."""
    users = (place for place, message in enumerate(messages) if message["role"] == "user" and place > index)
    following = messages[next(users, len(messages)) :]  # without the tools' replies, which no plain answer has
    plain = [*messages[:index], {"role": "assistant", "content": chr(FIRST_MARKER)}, *following]
    other, found, _ = (render_or_none(tokenizer, plain, tools) or "").partition(chr(FIRST_MARKER))
    pairs = zip(pieces(tokenizer, text), pieces(tokenizer, other), strict=False)
    common = "".join(piece for piece, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    said = str(messages[index - 1].get("content") or "").strip() if index else ""
    if not found or not bounds.earliest <= len(common) <= bounds.latest:
        return None
    return None if said and said in text[len(common) : bounds.latest] else len(common)
