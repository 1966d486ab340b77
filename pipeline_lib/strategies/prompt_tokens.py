"""Virtual tokens in a model: ids that no vocabulary has, and the vectors that stand in their places."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from pipeline_lib.models.blocks import Stack


class PromptTokens:
    """Where the virtual tokens of the batch under way stand, as the table of embeddings has seen it."""

    index: "Tensor"
    """[rows, tokens] which virtual token each is; below zero for a token of the vocabulary."""

    def hide(self, embeddings: Any, args: Any) -> Any:
        """Before the table is read, which has no row for them."""
        from pipeline_lib.data.examples import VIRTUAL

        (ids,) = args
        self.index = VIRTUAL - ids
        return (ids.masked_fill(self.index >= 0, 0),)

    def show(self, embeddings: Any, args: Any, out: "Tensor") -> "Tensor":
        """After it: the embeddings with the learned ones among them."""
        return self._among(out, embeddings.prompt)

    def replace(self, block: Any, args: Any, kwargs: Any) -> Any:
        """Before a block: its own vectors in place of what the block below has made of its."""
        if args:
            return (self._among(args[0], block.prompt), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": self._among(kwargs["hidden_states"], block.prompt)}

    def _among(self, hidden: "Tensor", vectors: "Tensor") -> "Tensor":
        import torch
        from torch.nn.functional import embedding

        learned = embedding(self.index.clamp(min=0), vectors).to(hidden.dtype)
        return torch.where(self.index[..., None] >= 0, learned, hidden)


def hidden_states_of_prompt(
    model: "PreTrainedModel", stacks: "Sequence[Stack]", length: int
) -> "dict[nn.Module, Tensor]":
    """What each block reads [length, width] where the model reads the virtual tokens alone."""
    import torch

    from pipeline_lib.data.examples import VIRTUAL

    read: dict[nn.Module, Tensor] = {}

    def note(block: Any, args: Any, kwargs: Any) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        read[block] = hidden[0].clone()

    hooks = [
        block.module.register_forward_pre_hook(note, with_kwargs=True) for stack in stacks for block in stack.blocks
    ]
    ids, training = VIRTUAL - torch.arange(length)[None], model.training
    with torch.no_grad():
        model.eval().base_model(input_ids=ids, **({"decoder_input_ids": ids} if len(stacks) > 1 else {}))
    model.train(training)
    for hook in hooks:
        hook.remove()
    return read
