"""Find chat templates after whose last answer nothing follows."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline_lib.checks.findings import Finding
from pipeline_lib.objectives.dialogue import locate_turns
from pipeline_lib.objectives.dialogue_objective import DialogueObjective

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from pipeline_lib.objectives import Objective

ANSWER = "Yes."


def find_missing_answer_end(
    objective: "Objective", tokenizer: "PreTrainedTokenizerBase", rows: int
) -> Iterator[Finding]:
    """Report a template that ends a dialogue's last answer with nothing, or only with white space."""
    if not isinstance(objective, DialogueObjective):
        return
    messages = [{"role": "user", "content": "Is it?"}, {"role": "assistant", "content": ANSWER}]
    try:
        dialogue = locate_turns(tokenizer, messages)
    except ValueError:  # a template may want other messages
        return
    turn = dialogue.turns[-1]
    if dialogue.text[turn.start : turn.end].rstrip().endswith(ANSWER):
        problem = "the chat template puts nothing after the last answer, so the model does not learn to end there"
        hint = "Set objective.chat_template to a template that writes {{ eos_token }} after each answer"
        yield Finding("answer_ends", rows, rows, problem, hint, "train")
