"""Dialogues as text: a row as one turn, and where in a dialogue's text the answers stand."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Piece = tuple[str, bool]
"""A part of a dialogue's text, and whether it is learned."""


def one_turn(row: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row of `prompt`, `input` and `answer` as a dialogue; without an answer it is yet to be given."""
    asked = "\n".join(str(row[role]) for role in ("prompt", "input") if row.get(role))
    answer = [{"role": "assistant", "content": row["answer"]}] if row.get("answer") else []
    return [{"role": "user", "content": asked}, *answer]


def pieces(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Mapping[str, str]]) -> list[Piece]:
    """A dialogue's text cut where an answer begins and ends."""
    parts, done = [], ""
    for index, message in enumerate(messages):
        if message["role"] == "assistant":
            for upto, learned in (
                (_render(tokenizer, messages[:index], True), False),
                (_render(tokenizer, messages[: index + 1], False), True),
            ):
                parts.append((upto[len(done) :], learned))
                done = upto
    if messages[-1]["role"] != "assistant":  # to be served: the answer is asked for
        parts.append((_render(tokenizer, messages, True)[len(done) :], False))
    return parts


def _render(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Mapping[str, str]], asked: bool) -> str:
    """The text of a dialogue; `asked`: up to where the next answer begins."""
    if tokenizer.chat_template:
        return str(
            tokenizer.apply_chat_template([dict(m) for m in messages], tokenize=False, add_generation_prompt=asked)
        )
    turns = [m["content"] + ((tokenizer.eos_token or "") if m["role"] == "assistant" else "\n\n") for m in messages]
    return (tokenizer.bos_token or "") + "".join(turns)
