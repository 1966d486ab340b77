"""Find the plain head of a language model, and the hidden states that it reads, so that losses need no full logits.

With a vocabulary of 49,152 tokens, the fp32 logits of 4,096 tokens take 768 MiB, and their loss and gradient as much
again, several times what the rest of a small model needs.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from pipeline_lib.models.shards import is_sharded

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

SAMPLE = 8
"""Number of tokens on which a head is verified."""


@dataclass(frozen=True, eq=False)
class LMHead:
    """A head whose logits are an elementwise function of `linear`'s output."""

    linear: "nn.Linear"
    bias: "Tensor | None" = None
    """Added to the output: `final_logits_bias` of BART's family."""
    factor: float | None = None
    """Multiplied with the output: `logit_scale` of Cohere."""
    divisor: float | None = None
    """The output is divided by it: `logits_scaling` of Granite."""
    cap: float | None = None
    """Bound c of the logits c tanh(x / c): `final_logit_softcapping` of Gemma 2."""

    def finish(self, logits: "Tensor") -> "Tensor":
        """Turn the linear layer's output into the model's logits, with the same operations as the model."""
        if self.bias is not None:
            logits = logits + self.bias.to(logits.device)
        if self.factor is not None:
            logits = logits * self.factor
        if self.divisor is not None:
            logits = logits / self.divisor
        if self.cap is not None:
            logits = (logits / self.cap).tanh() * self.cap
        return logits


_HEADS: "WeakKeyDictionary[nn.Module, LMHead | None]" = WeakKeyDictionary()
"""The plain heads of the models seen so far, each verified once."""


def hidden_states(model: "PreTrainedModel", inputs: "dict[str, Any]", head: LMHead) -> "Tensor":
    """Run a model up to its head and return the head's input, [rows, tokens, width].

    The head gets no tokens, so it has nothing to compute. The forward pass is not broken off before it: a sharded model
    frees and gathers weights at the end of its forward pass and at the beginning of its backward pass.
    """
    read: list[Tensor] = []

    def withhold(module: Any, args: Any) -> Any:
        read.append(args[0])
        return (args[0][:, :0],)

    hook = head.linear.register_forward_pre_hook(withhold)
    try:
        logits = model(**inputs).logits
    finally:
        hook.remove()
    (hidden,) = read
    # the sum of no numbers: with it, the backward pass begins where that of the model's outputs would
    return hidden + logits.sum() if is_sharded(next(model.parameters())) else hidden


def plain_head(model: "PreTrainedModel", inputs: "dict[str, Any]") -> LMHead | None:
    """Return a model's head if it is a plain linear layer; None for any other, such as one with LoRA.

    The answer is found once per model: the first tokens of `inputs` must give the same logits with the head as with the
    whole model, bit by bit.
    """
    if model not in _HEADS:
        _HEADS[model] = _verify_head(model, inputs)
    return _HEADS[model]


def assume_plain_head(model: "PreTrainedModel") -> None:
    """Take a model's head for plain, if it looks like that, where values that could verify it are missing."""
    linear = model.get_output_embeddings()
    _HEADS[model] = _describe_head(model, linear) if _is_plain(linear) else None


def _verify_head(model: "PreTrainedModel", inputs: "dict[str, Any]") -> LMHead | None:
    import torch

    linear = model.get_output_embeddings()
    if not _is_plain(linear):
        return None
    outputs: list[Tensor] = []
    hook = linear.register_forward_hook(lambda module, args, out: outputs.append(out))
    training = model.training
    model.eval()  # without dropout no random number is drawn, so a training is the same with and without this check
    try:
        with torch.no_grad():
            logits = model(**{name: _take_first_tokens(value) for name, value in inputs.items()}).logits
    finally:
        hook.remove()
        model.train(training)
    head = _describe_head(model, linear)
    if len(outputs) != 1 or not torch.equal(head.finish(outputs[0]), logits):
        return None
    return head


def _is_plain(linear: Any) -> bool:
    """Return whether a module is a linear layer that nothing wraps, patches or hooks."""
    from torch import nn

    from pipeline_lib.models.half_weights import is_patched

    if type(linear) is not nn.Linear or linear._forward_hooks or linear._forward_pre_hooks:
        return False
    return "forward" not in vars(linear) or is_patched(linear)


def _describe_head(model: "PreTrainedModel", linear: "nn.Linear") -> LMHead:
    """Return a head with what the family's configuration says about its logits."""
    config = model.config.get_text_config()
    return LMHead(
        linear,
        bias=getattr(model, "final_logits_bias", None),
        factor=getattr(config, "logit_scale", None),
        divisor=getattr(config, "logits_scaling", None),
        cap=getattr(config, "final_logit_softcapping", None),
    )


def _take_first_tokens(value: Any) -> Any:
    """Return the first tokens of the first row of an input; other arguments are unchanged."""
    import torch

    return value[:1, :SAMPLE] if isinstance(value, torch.Tensor) else value
