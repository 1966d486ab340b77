"""Generate answers to prompts with a decoder trained on dialogues."""

from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline_lib.data.examples import Examples, Ragged
from pipeline_lib.models.generation import continuations, move_padding_left
from pipeline_lib.models.limits import position_limit
from pipeline_lib.objectives.turn_frame import answer_of, stops, turn_frame

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def prompts(encoded: Examples) -> Examples:
    """Dialogues up to their last answer, the first input of each group."""
    targets: Any = encoded.targets
    firsts = range(0, len(targets), encoded.group)
    texts = [encoded.ids[row][: last_answer(targets[row])] for row in firsts]
    ids = Ragged.from_lists(texts)
    return Examples(ids, Ragged(np.full_like(ids.values, -1), ids.offsets), aligned=True)


def last_answer(targets: np.ndarray) -> int:
    """Where the last run of learned tokens begins; the end where nothing is learned."""
    learned = np.flatnonzero(targets >= 0)
    if not len(learned):
        return len(targets)
    breaks = np.flatnonzero(np.diff(learned) > 1)
    return int(learned[breaks[-1] + 1 if len(breaks) else 0])


def answers(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    batch: "dict[str, Tensor]",
    max_answer: int,
    beams: int,
) -> list[str]:
    """The likeliest continuation up to the end of the turn, without what the template puts around an answer."""
    width, frame = batch["input_ids"].shape[1], turn_frame(tokenizer)
    room = position_limit(model.config)
    most = max_answer if room is None else max(1, min(max_answer, room - width))
    asked = {"max_new_tokens": most, "num_beams": beams, **stops(tokenizer, model)}
    texts = continuations(model, tokenizer, width, **move_padding_left(batch), **asked)
    return [answer_of(tokenizer, frame, text) for text in texts]
