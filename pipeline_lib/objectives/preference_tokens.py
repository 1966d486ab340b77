"""Rows of preference data as token ids, and as inputs in groups of two."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline_lib.data.examples import IGNORED, Examples, Ragged
from pipeline_lib.objectives.dialogue_tokens import Fitting, Rendered, render_row
from pipeline_lib.objectives.messages import Message, is_learned
from pipeline_lib.objectives.turn_frame import answer_of, turn_frame

if TYPE_CHECKING:
    import pyarrow
    from transformers import PreTrainedTokenizerBase

UNDESIRABLE = -2
"""Target of the first token, which is never predicted, that marks an input with an undesirable answer."""
ANSWERS = ("chosen", "rejected", "completion")


def render_answers(tokenizer: "PreTrainedTokenizerBase", row: Mapping[str, Any]) -> list[Rendered]:
    """Render the prompt with each of its answers, or the prompt alone.

    Raises ValueError if the template rejects a dialogue, or if both answers have the same text.
    """
    answers = [row[role] for role in ANSWERS if row.get(role)]
    if not answers:
        return [render_row(tokenizer, row)]
    whole = ({"messages": [*row["messages"], *answer], "tools": row.get("tools")} for answer in answers)
    rendered = [render_row(tokenizer, dialogue) for dialogue in whole]
    texts = [whole.dialogue.text.rstrip() for whole in rendered]
    if len(texts) > 1 and texts[0] == texts[1]:
        raise ValueError("chosen and rejected are the same in the chat template")
    return rendered


def encode_columns(
    tokenizer: "PreTrainedTokenizerBase",
    rows: Sequence[Mapping[str, Any]],
    max_length: int | None,
    max_answer: int,
    paired: bool,
) -> dict[str, list[Any]]:
    """The columns of token ids, and the text of the wanted answer; both answers of a row have the same prompt left."""
    fitting, frame = Fitting.from_limits(tokenizer, max_length, max_answer), turn_frame(tokenizer)
    names = [("input_ids", "target_ids"), *([("rejected_ids", "rejected_target_ids")] if paired else [])]
    columns: dict[str, list[Any]] = {name: [] for pair in names for name in pair} | {"expected": []}
    for row in rows:
        wholes = row.get("rendered") or render_answers(tokenizer, row)
        lengths = [len(row[role]) for role in ANSWERS if row.get(role)] or [0]
        learns = [partial(_is_of_answer, length) for length in lengths]
        found: list[Any] = [*fitting.fit_together(tokenizer, wholes, learns)]
        found += [None] * (len(names) - len(found))
        for (ids_name, targets_name), encoded in zip(names, found, strict=True):
            columns[ids_name].append(encoded and encoded[0])
            columns[targets_name].append(encoded and _targets(*encoded))
        answered = wholes[0].answered
        columns["expected"].append(answer_of(tokenizer, frame, wholes[0].answer) if answered else None)
    return columns


def _is_of_answer(length: int, messages: Sequence[Message], index: int) -> bool:
    """Whether the turn with this index is learned: it is among the last `length` messages, and its weight is not 0."""
    return index >= len(messages) - length and is_learned(messages[index])


def _targets(ids: list[int], learned: list[bool]) -> list[int]:
    return [token if learned[place] and place else IGNORED for place, token in enumerate(ids)]


def prompts_alone(rows: "pyarrow.Table") -> Examples:
    """Prompts without answers, one input each."""
    return Examples(Ragged.from_lists(rows["input_ids"]), Ragged.from_lists(rows["target_ids"]), aligned=True)


def interleave_pairs(rows: "pyarrow.Table") -> Examples:
    """Chosen and rejected in turn."""
    nobody = np.zeros(len(rows), bool)
    chosen = _mark_undesirable(Ragged.from_lists(rows["target_ids"]), nobody)
    rejected = _mark_undesirable(Ragged.from_lists(rows["rejected_target_ids"]), ~nobody)
    ids = Ragged.from_lists(rows["input_ids"]).interleave(Ragged.from_lists(rows["rejected_ids"]))
    return _pair_examples(ids, chosen.interleave(rejected))


def add_mismatched_answers(rows: "pyarrow.Table") -> Examples:
    """Return each row's answer, and the answer of the next row with another prompt, appended to this row's prompt.

    KTO computes its reference point from the latter: Ethayarajh et al. (2024), section 4.1. They are truncated to the
    length of the longest row.
    """
    ids, targets = Ragged.from_lists(rows["input_ids"]), Ragged.from_lists(rows["target_ids"])
    begins = [int(np.argmax(targets[row] >= 0)) for row in range(len(ids))]
    prompts = [ids[row][:begin].tobytes() for row, begin in enumerate(begins)]
    other_ids, other_targets = [], []
    for row, begin in enumerate(begins):
        other = _find_other_prompt(prompts, row)
        end = begins[other] + ids.longest - begin
        nothing = np.full(begin, IGNORED, np.int32)
        other_ids.append(np.concatenate([ids[row][:begin], ids[other][begins[other] : end]]))
        other_targets.append(np.concatenate([nothing, targets[other][begins[other] : end]]))
    undesirable = ~rows["label"].to_numpy().astype(bool)
    return _pair_examples(
        ids.interleave(Ragged.from_lists(other_ids)),
        _mark_undesirable(targets, undesirable).interleave(Ragged.from_lists(other_targets)),
    )


def _find_other_prompt(prompts: Sequence[bytes], row: int) -> int:
    """Return the next row with another prompt, cyclically; the next row if there is none."""
    count = len(prompts)
    for step in range(1, count):
        if prompts[(row + step) % count] != prompts[row]:
            return (row + step) % count
    return (row + 1) % count


def _mark_undesirable(targets: Ragged, undesirable: np.ndarray) -> Ragged:
    """With the mark of undesirable answers at these rows."""
    values = targets.values.copy()
    values[targets.offsets[:-1][undesirable]] = UNDESIRABLE
    return Ragged(values, targets.offsets)


def _pair_examples(ids: Ragged, targets: Ragged) -> Examples:
    rows = np.arange(len(ids) // 2)
    return Examples(ids, targets, aligned=True, rows=np.repeat(rows, 2), losses=np.ones(len(rows), np.int64), group=2)
