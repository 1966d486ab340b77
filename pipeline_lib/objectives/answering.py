"""Generate answers to prompts with a decoder trained on dialogues."""

from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline_lib.data.examples import Examples, Ragged
from pipeline_lib.models.generation import Generated, continuations, move_padding_left
from pipeline_lib.models.limits import position_limit
from pipeline_lib.objectives.turn_frame import answer_of, stops, turn_frame

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def prompts(encoded: Examples) -> Examples:
    """Dialogues up to their last answer, the first input of each group."""
    targets: Any = encoded.targets
    firsts = range(0, len(targets), encoded.group)
    texts = [encoded.ids[row][: start_of_last_answer(targets[row])] for row in firsts]
    ids = Ragged.from_lists(texts)
    return Examples(ids, Ragged(np.full_like(ids.values, -1), ids.offsets), aligned=True)


def start_of_last_answer(targets: np.ndarray) -> int:
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
) -> list[Generated]:
    """Generate an answer up to the end of the turn, without the template's text around it.

    Prompts that leave less room than `max_answer` are only batched with others of the same length, so that no answer
    depends on the other prompts of a batch.
    """
    frame, lengths = turn_frame(tokenizer), batch["attention_mask"].sum(-1)
    batch, room = move_padding_left(batch), position_limit(model.config)
    most = lengths.new_full(lengths.shape, max_answer)
    if room is not None:
        most = most.minimum(room - lengths).clamp(min=1)
    found: dict[int, Generated] = {}
    for limit in most.unique().tolist():
        rows = (most == limit).nonzero()[:, 0]
        width = int(lengths[rows].max())
        prompts = {name: tensor[rows, -width:] for name, tensor in batch.items()}
        options = {"max_new_tokens": limit, "num_beams": beams, **stops(tokenizer, model)}
        found |= zip(rows.tolist(), continuations(model, tokenizer, width, **prompts, **options), strict=True)
    return [found[row]._replace(text=answer_of(tokenizer, frame, found[row].text)) for row in range(len(lengths))]
