"""Where an assistant's turn ends in a chat template's text."""

import re
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from pipeline_lib.objectives.template_text import end_of_added_token, pieces, render_or_none

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FIRST_MARKER = 0xF0000
"""The first of the private-use characters that replace or surround answers: those of answer i are the pair at
2i, before and after its content."""
MARKERS = re.compile("[\U000f0000-\U000ffffd]")


class Unclear(ValueError):
    """A turn could not be located for certain."""


def turn_end(
    tokenizer: "PreTrainedTokenizerBase",
    messages: list[dict[str, Any]],
    index: int,
    tools: Any,
    text: str,
    closed: int,
    usual: str,
) -> int:
    """Return where a turn ends, after its end token; `closed` is after its content, or inside its last tool call."""
    calls = messages[index].get("tool_calls")
    if usual and not calls and (found := re.compile(rf"\s*{re.escape(usual)}").match(text, closed)):
        return found.end()
    alone = (render_or_none(tokenizer, messages[: index + 1], tools, False) or "").rstrip()
    whole = len(alone) if closed <= len(alone) and text.startswith(alone) else None
    mark = end_of_added_token(tokenizer, text, closed)
    # a template that puts nothing behind the last answer: the token before the next message ends the earlier ones
    if mark and not calls and (whole is None or mark <= whole or not text[closed:whole].strip()):
        return mark
    if whole is not None:
        return whole
    if calls:
        reply = _reply_start(tokenizer, messages, index, tools, text)
        for end in (usual, alone):  # before their last token, they may be those of plain answers alone
            last = pieces(tokenizer, end)[-1:]
            if last and len(last[0]) > 1 and (at := text.find(last[0], closed, reply)) >= 0:
                return at + len(last[0])
    raise Unclear("the chat template's text does not show where an answer ends")


def _reply_start(
    tokenizer: "PreTrainedTokenizerBase", messages: list[dict[str, Any]], index: int, tools: Any, text: str
) -> int:
    """Return where the content of the message after a turn begins; the end of the text if that is unknown."""
    if index + 1 == len(messages) or not messages[index + 1].get("content"):
        return len(text)
    marker = chr(FIRST_MARKER)
    reply = messages[index + 1] | {"content": marker + messages[index + 1]["content"]}
    marked = render_or_none(tokenizer, [*messages[: index + 1], reply, *messages[index + 2 :]], tools) or ""
    before, found, _ = marked.partition(marker)
    return len(before) if found and MARKERS.sub("", marked) == text else len(text)


def usual_end(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return the text after the content of a plain answer; empty if none, or if the last answer ends differently.

    It can be several tokens. Text that a template adds after the whole dialogue is not part of it, such as Phi-3's end
    of text, or the header of the next turn that Command R7B's always writes.
    """
    answers = [chr(FIRST_MARKER), chr(FIRST_MARKER + 1)]
    messages = [
        message
        for answer in answers
        for message in ({"role": "user", "content": "?"}, {"role": "assistant", "content": answer})
    ]
    text = render_or_none(tokenizer, messages, None) or ""
    earlier, last = (pieces(tokenizer, text.partition(answer)[2]) for answer in answers)
    first = pieces(tokenizer, text.removeprefix(tokenizer.bos_token or ""))[:1]
    opening = [piece for piece in first if len(piece) > 1]  # the token that opens every turn
    common = takewhile(lambda pair: pair[0] == pair[1] and pair[0] not in opening, zip(earlier, last, strict=False))
    return "".join(piece for piece, _ in common).strip()
