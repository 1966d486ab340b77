"""Log-probabilities of tokens and deterministic generation, shared by generative objectives."""

from typing import TYPE_CHECKING, Any

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


def write(model: Any, tokenizer: "PreTrainedTokenizerBase", begun: int, **settings: Any) -> list[str]:
    """Generate deterministically with `model.generate`, and return the text after the first `begun` tokens."""
    out = model.generate(do_sample=False, pad_token_id=tokenizer.pad_token_id, **settings)
    return [text.strip() for text in tokenizer.batch_decode(out[:, begun:], skip_special_tokens=True)]


def continuations(model: Any, tokenizer: "PreTrainedTokenizerBase", begun: int, **settings: Any) -> list[str]:
    """Generate like `write`, but keep special tokens in the text, and cut it at the first end token."""
    out = model.generate(do_sample=False, pad_token_id=tokenizer.pad_token_id, **settings)
    ends = set(settings.get("eos_token_id") or ())
    texts = []
    for row in out[:, begun:].tolist():
        end = next((index for index, token in enumerate(row) if token in ends), len(row))
        texts.append(str(tokenizer.decode(row[:end], skip_special_tokens=False)))
    return texts


def move_padding_left(batch: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """Move the padding of a batch to the left, so that generated tokens follow each row's last token."""
    import torch

    lengths = batch["attention_mask"].sum(-1, keepdim=True)
    width = batch["input_ids"].shape[1]
    # Rotate each row to the right by its amount of padding: position i takes the token at (i + length) mod width.
    order = (torch.arange(width, device=lengths.device) + lengths) % width
    return {name: tensor.gather(1, order) for name, tensor in batch.items()}
