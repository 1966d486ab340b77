"""Find chat templates that do not end the last answer, or that leave out messages."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline_lib.checks.findings import Finding
from pipeline_lib.objectives.dialogue import locate_turns
from pipeline_lib.objectives.dialogue_objective import DialogueObjective
from pipeline_lib.objectives.messages import to_template_message
from pipeline_lib.objectives.template_text import render_as_accepted

if TYPE_CHECKING:
    import pyarrow
    from transformers import PreTrainedTokenizerBase

    from pipeline_lib.objectives import Objective

ANSWER = "Yes."
ROWS = 100
"""Maximum number of dialogues that are read."""


def find_template_faults(
    objective: "Objective", tokenizer: "PreTrainedTokenizerBase", rows: "pyarrow.Table"
) -> Iterator[Finding]:
    """Report a template without an end of the last answer, and one that leaves out system prompts or questions."""
    if not isinstance(objective, DialogueObjective) or not tokenizer.chat_template:
        return
    yield from _find_missing_end(tokenizer, len(rows))
    if "messages" in rows.column_names:
        yield from _find_lost_messages(tokenizer, rows)


def _find_missing_end(tokenizer: "PreTrainedTokenizerBase", rows: int) -> Iterator[Finding]:
    messages = [{"role": "user", "content": "Is it?"}, {"role": "assistant", "content": ANSWER}]
    try:
        dialogue = locate_turns(tokenizer, messages)
    except ValueError:  # a template may want other messages
        return
    turn = dialogue.turns[-1]
    if dialogue.text[turn.start : turn.end].rstrip().endswith(ANSWER):
        problem = "the chat template puts nothing after the last answer, so the model does not learn to stop there"
        hint = "Set objective.chat_template to a template that writes {{ eos_token }} after each answer"
        yield Finding("chat_template", rows, rows, problem, hint, "train")


def _find_lost_messages(tokenizer: "PreTrainedTokenizerBase", rows: "pyarrow.Table") -> Iterator[Finding]:
    lost, read = dict.fromkeys(("system", "user"), 0), min(len(rows), ROWS)
    for messages in rows["messages"].slice(0, read).to_pylist():
        try:
            _, text = render_as_accepted(tokenizer, [to_template_message(message) for message in messages], None)
        except ValueError:  # with tools, which are not rendered here
            continue
        for role in lost:
            lost[role] += any(
                message["role"] == role and (message["content"] or "").strip() not in text for message in messages
            )
    for role, count in lost.items():
        if count:
            what = "the system prompt" if role == "system" else "a question"
            problem = f"the chat template leaves out {what} in {count:,} of {read:,} dialogues"
            hint = "Set objective.chat_template to a template that writes all messages"
            yield Finding("chat_template", count, read, problem, hint, "train")
