"""Log-probabilities of tokens and deterministic generation, shared by generative objectives."""

from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline_lib.errors import RecipeError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


def logp_by_token(logits: "Tensor", targets: "Tensor") -> "Tensor":
    """Compute the log-probability of each target token but the first.

    Args:
        logits: [rows, length - 1, vocabulary], the predictions after each token but the last.
        targets: [rows, length]; targets below zero do not count.

    Returns:
        [rows, length - 1] float32 log-probabilities in nats, 0 where the target does not count.
    """
    import torch
    from torch.nn import functional

    counted = targets[:, 1:] >= 0
    # select first, so that only the logits in use are converted to float32
    losses = functional.cross_entropy(logits[counted].float(), targets[:, 1:][counted], reduction="none")
    return torch.zeros(counted.shape, device=logits.device).masked_scatter(counted, -losses)


class Generated(NamedTuple):
    """A generated text and its number of tokens, the end token included."""

    text: str
    tokens: int


def write(model: Any, tokenizer: "PreTrainedTokenizerBase", begun: int, **settings: Any) -> list[Generated]:
    """Generate deterministically with `model.generate`, and return what follows the first `begun` tokens."""
    ends = model.generation_config.eos_token_id
    rows = _generate(model, tokenizer, begun, settings)
    texts = tokenizer.batch_decode(rows, skip_special_tokens=True)
    ended = {ends} if isinstance(ends, int) else set(ends or ())
    pad = tokenizer.pad_token_id
    return [Generated(text.strip(), _count(row, ended, pad)) for text, row in zip(texts, rows, strict=True)]


def continuations(model: Any, tokenizer: "PreTrainedTokenizerBase", begun: int, **settings: Any) -> list[Generated]:
    """Generate like `write`, but keep special tokens in the text, and cut it at the first end token."""
    ends = set(settings.get("eos_token_id") or ())
    texts = []
    for row in _generate(model, tokenizer, begun, settings):
        count = _count(row, ends, tokenizer.pad_token_id)
        answer = row[: count - 1] if count and row[count - 1] in ends else row[:count]
        texts.append(Generated(str(tokenizer.decode(answer, skip_special_tokens=False)), count))
    return texts


def _generate(
    model: Any, tokenizer: "PreTrainedTokenizerBase", begun: int, settings: dict[str, Any]
) -> list[list[int]]:
    """Return the new tokens of each row. The cache of keys and values is on whatever the base's files say.

    Raises RecipeError if the settings in the base's files cannot be used.
    """
    own = {"do_sample": False, "use_cache": True, "pad_token_id": tokenizer.pad_token_id}
    try:
        out = model.generate(**own, tokenizer=tokenizer, **settings)  # the tokenizer is for stop strings
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        problem = f"has settings with which it cannot generate text ({reason})"
        raise RecipeError("model.base", model.name_or_path, problem, "Check its generation_config.json") from error
    rows: list[list[int]] = out[:, begun:].tolist()
    return rows


def _count(row: list[int], ends: set[int], pad: int | None) -> int:
    """Return the number of tokens up to the first end token, which counts, else without the padding at the end."""
    for index, token in enumerate(row):
        if token in ends:
            return index + 1
    count = len(row)
    while count and row[count - 1] == pad:
        count -= 1
    return count


def move_padding_left(batch: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """Move the padding of a batch to the left, so that generated tokens follow each row's last token."""
    import torch

    lengths = batch["attention_mask"].sum(-1, keepdim=True)
    width = batch["input_ids"].shape[1]
    # Rotate each row to the right by its amount of padding: position i takes the token at (i + length) mod width.
    order = (torch.arange(width, device=lengths.device) + lengths) % width
    return {name: tensor.gather(1, order) for name, tensor in batch.items()}
