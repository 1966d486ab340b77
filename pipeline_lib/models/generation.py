"""What models that write text have in common: how likely they find a text, and having them write one."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


def likelihoods(logits: "Tensor", targets: "Tensor") -> "list[numpy.ndarray]":
    """[negative log likelihood in nats, tokens] of each row: logits [rows, length, vocabulary], targets [rows, length].

    Targets below zero do not count.
    """
    import torch
    from torch.nn import functional

    there = targets >= 0
    losses = torch.zeros(targets.shape, device=logits.device)
    losses[there] = functional.cross_entropy(logits[there].float(), targets[there], reduction="none")
    return list(torch.stack([losses.sum(-1), there.sum(-1)], -1).double().cpu().numpy())


def logp_by_token(logits: "Tensor", targets: "Tensor") -> "Tensor":
    """[rows, length - 1] the log-probability of each target from the second, 0 where the target is below zero.

    `logits` [rows, length - 1, vocabulary] are what the model expects after each token but the last. Only those of
    targets that count are taken to float32.
    """
    import torch
    from torch.nn import functional

    there = targets[:, 1:] >= 0
    losses = functional.cross_entropy(logits[there].float(), targets[:, 1:][there], reduction="none")
    return torch.zeros(there.shape, device=logits.device).masked_scatter(there, -losses)


def write(model: Any, tokenizer: "PreTrainedTokenizerBase", begun: int, **settings: Any) -> list[str]:
    """Deterministic decoding with `model.generate`; the text after the first `begun` tokens of each output."""
    out = model.generate(do_sample=False, pad_token_id=tokenizer.pad_token_id, **settings)
    return [text.strip() for text in tokenizer.batch_decode(out[:, begun:], skip_special_tokens=True)]


def continuations(model: Any, tokenizer: "PreTrainedTokenizerBase", begun: int, **settings: Any) -> list[str]:
    """Deterministic decoding like `write`, but with special tokens in the text, up to the first end token."""
    out = model.generate(do_sample=False, pad_token_id=tokenizer.pad_token_id, **settings)
    ends = set(settings.get("eos_token_id") or ())
    texts = []
    for row in out[:, begun:].tolist():
        until = next((place for place, token in enumerate(row) if token in ends), len(row))
        texts.append(str(tokenizer.decode(row[:until], skip_special_tokens=False)))
    return texts


def left_padded(batch: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """The same batch with its padding on the left, so that what a decoder writes follows every row's last token."""
    import torch

    lengths = batch["attention_mask"].sum(-1, keepdim=True)
    width = batch["input_ids"].shape[1]
    order = (torch.arange(width, device=lengths.device) + lengths) % width
    return {name: tensor.gather(1, order) for name, tensor in batch.items()}
