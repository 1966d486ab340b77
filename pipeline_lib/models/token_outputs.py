"""What a language model predicts for the learned tokens of a batch: their losses, in chunks, without all logits."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn import functional

from pipeline_lib.models.lm_head import LMHead, hidden_states, plain_head

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

CPU_CHUNK, GPU_CHUNK = 2**23, 2**26
"""Maximum logits in memory at a time (32 and 256 MiB in fp32); loss and gradient take about three times as much.

A GPU needs more tokens at a time to be busy.
"""
FLOAT32, TIMES = 4, 3
"""Bytes of a number, and how often logits are in memory: themselves, their logarithms and their gradients."""


@dataclass(frozen=True, eq=False)
class TokenOutputs:
    """Predictions of n tokens."""

    targets: "Tensor"
    """[n] the right tokens."""
    values: "Tensor"
    """[n, width], what the head reads; without a plain head [n, vocabulary], the logits."""
    head: LMHead | None
    dtype: "torch.dtype"
    """The data type in which the head computes: autocast's, as it was in the forward pass."""

    def logits(self) -> "Tensor":
        """Return all logits, [n, vocabulary] in float32."""
        if self.head is None:
            return self.values.float()
        return _logits(self.head, self.values, *_cast(self.head, self.dtype)).float()

    @cached_property
    def losses(self) -> "Tensor":
        """The cross-entropy of each token, [n] in float32, without gradients."""
        if self.head is None:
            return functional.cross_entropy(self.values.detach().float(), self.targets, reduction="none")
        losses = torch.zeros(len(self.targets), device=self.targets.device)
        with torch.no_grad(), _disable_autocast(self.values):
            weight, bias = _cast(self.head, self.dtype)
            for chunk in _chunks(self.targets, weight):
                logits = _logits(self.head, self.values[chunk], weight, bias).float()
                losses[chunk] = functional.cross_entropy(logits, self.targets[chunk], reduction="none")
        return losses

    def loss_sum(self, smoothing: float = 0.0) -> "Tensor":
        """Return the sum of all cross-entropies, with gradients; `smoothing` is spread over the vocabulary."""
        if not torch.is_grad_enabled() and not smoothing:
            return self.losses.sum()
        if self.head is None:
            settings: Any = {"reduction": "sum", "label_smoothing": smoothing}
            return functional.cross_entropy(self.values.float(), self.targets, **settings)
        linear = self.head.linear
        parameters = (linear.weight, linear.bias)
        return _LossSum.apply(self.values, *parameters, self.targets, self.head, self.dtype, smoothing)


def token_outputs(
    model: "PreTrainedModel", inputs: "dict[str, Any]", targets: "Tensor", is_shifted: bool
) -> TokenOutputs:
    """Run a model and keep what predicts the learned tokens.

    Args:
        model: The model.
        inputs: Its arguments.
        targets: [rows, length] the right tokens; those below zero are not learned.
        is_shifted: Whether the output at a place predicts the next token, so that the first one cannot be learned.
    """
    head = plain_head(model, inputs)
    values = model(**inputs).logits if head is None else hidden_states(model, inputs, head)
    if is_shifted:
        values, targets = values[:, :-1], targets[:, 1:]
    learned = targets >= 0
    return TokenOutputs(targets[learned], values[learned], head, _dtype(values))


def loss_bytes(device: str, tokens: int, vocabulary: int) -> int:
    """Return the bytes that the loss of `tokens` learned tokens needs at a time, besides the hidden states."""
    chunk = CPU_CHUNK if device == "cpu" else GPU_CHUNK
    return TIMES * FLOAT32 * min(chunk, tokens * vocabulary)


class _Gradients(NamedTuple):
    """Gradients of a loss with respect to hidden states, weight and bias; None for what is not trained."""

    hidden: "Tensor | None"
    weight: "Tensor | None"
    bias: "Tensor | None"


class _LossSum(torch.autograd.Function):
    """Sum of cross-entropies whose gradients are computed chunk by chunk in the forward pass.

    So no logits are kept, and none are computed twice. torch's `linear_cross_entropy` does the same without functions
    of the logits such as Gemma 2's bound; on a CPU it takes twice as long.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: "Tensor", weight: "Tensor", bias: "Tensor | None", targets: "Tensor", head: LMHead,
        dtype: "torch.dtype", smoothing: float,
    ) -> "Tensor":  # fmt: skip
        grads = _Gradients(
            *(_zeros(value, is_needed) for value, is_needed in zip((hidden, weight, bias), ctx.needs_input_grad))
        )
        total = torch.zeros((), device=hidden.device)
        with _disable_autocast(hidden):
            cast_weight, cast_bias = _cast(head, dtype)
            for chunk in _chunks(targets, weight):
                read = hidden[chunk].to(dtype)
                outputs = functional.linear(read, cast_weight, cast_bias).requires_grad_()
                with torch.enable_grad():
                    logits = head.finish(outputs).float()
                    loss = functional.cross_entropy(logits, targets[chunk], reduction="sum", label_smoothing=smoothing)
                (grad,) = torch.autograd.grad(loss, outputs)
                total += loss.detach()
                del outputs, logits, loss  # before the next chunk's are computed
                _add(grads, chunk, grad, read, cast_weight)
        ctx.grads = grads
        return total

    @staticmethod
    def backward(ctx: Any, grad: "Tensor") -> Any:  # type: ignore[override]
        grads, ctx.grads = ctx.grads, None  # scaled in place: a second backward pass is not supported
        return (*(None if value is None else value.mul_(grad) for value in grads), None, None, None, None)


def _add(grads: _Gradients, chunk: slice, grad: "Tensor", read: "Tensor", weight: "Tensor") -> None:
    """Add the gradients of a chunk, given the gradient of the linear layer's outputs."""
    if grads.hidden is not None:
        grads.hidden[chunk] = grad @ weight
    if grads.weight is not None:
        if grads.weight.dtype == grad.dtype:
            grads.weight.addmm_(grad.T, read)
        else:
            grads.weight.add_(grad.T @ read)
    if grads.bias is not None:
        grads.bias.add_(grad.sum(0, dtype=grads.bias.dtype))


def _zeros(value: "Tensor | None", is_needed: bool) -> "Tensor | None":
    return torch.zeros_like(value) if value is not None and is_needed else None


def _logits(head: LMHead, hidden: "Tensor", weight: "Tensor", bias: "Tensor | None") -> "Tensor":
    return head.finish(functional.linear(hidden.to(weight.dtype), weight, bias))


def _cast(head: LMHead, dtype: "torch.dtype") -> "tuple[Tensor, Tensor | None]":
    """Return weight and bias of the linear layer in the data type in which it computes."""
    bias = head.linear.bias
    return head.linear.weight.to(dtype), None if bias is None else bias.to(dtype)


def _dtype(hidden: "Tensor") -> "torch.dtype":
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype


def _disable_autocast(tensor: "Tensor") -> "torch.autocast":
    return torch.autocast(tensor.device.type, enabled=False)


def _chunks(targets: "Tensor", weight: "Tensor") -> Iterator[slice]:
    """Yield slices of the targets that have few enough logits."""
    most = CPU_CHUNK if targets.device.type == "cpu" else GPU_CHUNK
    size = max(1, most // len(weight))
    for begin in range(0, len(targets), size):
        yield slice(begin, begin + size)
