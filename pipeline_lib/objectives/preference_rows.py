"""Rows of preference data in the formats that people store them in, as prompt and answers in messages."""

import re
from collections.abc import Mapping
from typing import Any

from pipeline_lib.objectives.messages import (
    Message,
    dialogue,
    exchange,
    is_learned,
    parse_messages,
    up_to_last_answer,
    with_system,
)
from pipeline_lib.objectives.values import name_of

TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")
"""The turns of a dialogue that is one text, as in Anthropic's HH-RLHF."""
LABELS = {"true": True, "1": True, "yes": True, "desirable": True, "chosen": True, "good": True}
LABELS |= {"false": False, "0": False, "no": False, "undesirable": False, "-1": False, "rejected": False, "bad": False}


def pair(row: Mapping[str, Any], whole: bool) -> dict[str, list[Message]]:
    """Return `messages` (the prompt), `chosen` and `rejected`; raises ValueError with the reason if a row lacks them.

    `whole`: both answers are whole dialogues, and the part that they share is the prompt.
    """
    if whole or all(_begins_with_prompt(role, row[role]) for role in ("chosen", "rejected")):
        prompt, chosen, rejected = _split_shared_prompt(
            _dialogue("chosen", row["chosen"]), _dialogue("rejected", row["rejected"])
        )
    else:
        prompt = _prompt(row)
        chosen, rejected = (_answer(role, row[role], prompt) for role in ("chosen", "rejected"))
    if chosen == rejected:
        raise ValueError("chosen and rejected are the same")
    return {"messages": with_system(prompt, row.get("system")), "chosen": chosen, "rejected": rejected}


def clean_labelled_row(row: Mapping[str, Any], whole: bool) -> dict[str, Any]:
    """Return `messages` (the prompt), `completion` and `label`; raises ValueError with the reason if it lacks them."""
    label = LABELS.get(name_of("label", row["label"]).casefold())
    if label is None:
        raise ValueError(f"label {row['label']!r} does not say whether the completion is desirable")
    if whole:
        dialogue = _dialogue("completion", row["completion"])
        prompt, completion = dialogue[:-1], dialogue[-1:]
        if not prompt:
            raise ValueError("completion has no prompt before the last answer")
    else:
        prompt = _prompt(row)
        completion = _answer("completion", row["completion"], prompt)
    return {"messages": with_system(prompt, row.get("system")), "completion": completion, "label": label}


def _prompt(row: Mapping[str, Any]) -> list[Message]:
    return exchange({"prompt": row["prompt"]})


def _answer(role: str, value: Any, prompt: list[Message]) -> list[Message]:
    """An answer as messages, from a text or from messages, without the prompt; the last one is the assistant's."""
    messages = exchange({"prompt": "?", "answer": value})[1:]
    if messages[: len(prompt)] == prompt:
        messages = messages[len(prompt) :]
    if not messages:
        raise ValueError(f"empty {role}")
    if messages[0]["role"] not in ("assistant", "tool"):
        raise ValueError(f"{role} begins with a {messages[0]['role']} message that differs from the prompt")
    if not any(map(is_learned, messages)):
        raise ValueError(f"{role} has no assistant message")
    return up_to_last_answer(messages)


def _dialogue(role: str, value: Any) -> list[Message]:
    """A whole dialogue, from messages or from a text with the turns of a human and an assistant."""
    if isinstance(value, str) and (turns := TURN.split(value)[1:]):
        said = zip(turns[::2], turns[1::2], strict=True)
        value = [{"from": name.lower(), "value": text.strip()} for name, text in said if text.strip()]
    try:
        return up_to_last_answer(dialogue(value))
    except ValueError as error:
        raise ValueError(f"{role}: {error}") from None


def _begins_with_prompt(role: str, value: Any) -> bool:
    """Whether messages begin before the answer: with the system's or a user's."""
    messages = parse_messages(role, value)
    return messages is not None and messages[0]["role"] not in ("assistant", "tool")


def _split_shared_prompt(
    chosen: list[Message], rejected: list[Message]
) -> tuple[list[Message], list[Message], list[Message]]:
    """The messages that both dialogues begin with, and the rest of each."""
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    if not shared:
        raise ValueError("chosen and rejected have no prompt in common")
    for role, messages in (("chosen", chosen), ("rejected", rejected)):
        if not any(map(is_learned, messages[shared:])):
            both = (
                "are the same"
                if chosen == rejected
                else f"differ only in length: {role} has no answer after the shared messages"
            )
            raise ValueError(f"chosen and rejected {both}")
    return chosen[:shared], chosen[shared:], rejected[shared:]
