"""What a model says of the answers in a batch, in the few numbers that losses and metrics of preferences need."""

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from pipeline_lib.models.generation import logp_by_token
from pipeline_lib.objectives.preference_tokens import UNDESIRABLE

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


def summaries(model: "PreTrainedModel", batch: "dict[str, Tensor]", targets: "Tensor", whole: bool) -> "Tensor":
    """[inputs, fields of `Answers`] in float32.

    Args:
        model: The model.
        batch: Its inputs; with `reference` [inputs, length], the reference's log-probabilities of the learned tokens,
            and with `step_mean`, one number.
        targets: [inputs, length] the ids of the tokens that are learned, others below zero.
        whole: Whether `nll` is needed, of every other input from the first.
    """
    given = dict(batch)
    reference, step_mean = given.pop("reference", None), given.pop("step_mean", None)
    logits = model(**given, use_cache=False).logits[:, :-1]
    used = targets[:, 1:] >= 0
    found = logp_by_token(logits, targets)
    known = found.detach() if reference is None else reference[:, 1:]
    zero = torch.zeros(len(targets), device=found.device)
    fields = {
        "logp": found.sum(-1),
        "tokens": used.sum(-1),
        "reference": known.sum(-1),
        "moved": (found.detach() - known).square().sum(-1) / 2,
        "nll": _nll(logits, given) if whole else zero,
        "read": text_tokens(given) if whole else zero,
        "desirable": ~(targets == UNDESIRABLE).any(-1),
    }
    if step_mean is not None:
        fields["step_mean"] = step_mean.expand(len(targets))
    return torch.stack([value.float() for value in fields.values()], -1)


def text_tokens(batch: "dict[str, Tensor]") -> "Tensor":
    """[inputs] tokens that follow another one, without padding and without the virtual tokens of learned prompts."""
    return _read(batch).sum(-1)


def _read(batch: "dict[str, Tensor]") -> "Tensor":
    return (batch["attention_mask"][:, 1:] == 1) & (batch["input_ids"][:, 1:] >= 0)


def _nll(logits: "Tensor", batch: "dict[str, Tensor]") -> "Tensor":
    """[inputs] negative log-likelihood of prompt and answer, 0 for every other input from the second."""
    used = _read(batch)
    used[1::2] = False
    losses = functional.cross_entropy(logits[used].float(), batch["input_ids"][:, 1:][used], reduction="none")
    return torch.zeros(used.shape, device=logits.device).masked_scatter(used, losses).sum(-1)
