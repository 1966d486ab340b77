"""Hooks that replace virtual tokens, whose ids are outside the vocabulary, by learned vectors."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from pipeline_lib.models.blocks import Stack


class PromptTokens:
    """Positions of the virtual tokens in the current batch, recorded when the embedding table is called."""

    index: "Tensor"
    """[rows, tokens] index of each virtual token; negative for tokens of the vocabulary."""

    def hide(self, embeddings: Any, args: Any) -> Any:
        """Record the virtual tokens and replace their ids by 0, which the table can look up; a forward pre-hook."""
        from pipeline_lib.data.examples import VIRTUAL

        (ids,) = args
        self.index = VIRTUAL - ids
        return (ids.masked_fill(self.index >= 0, 0),)

    def show(self, embeddings: Any, args: Any, out: "Tensor") -> "Tensor":
        """Insert the learned embeddings into the table's output; a forward hook."""
        return self._insert(out, embeddings.prompt)

    def replace(self, block: Any, args: Any, kwargs: Any) -> Any:
        """Replace the previous block's outputs for virtual tokens by this block's own vectors; a forward pre-hook."""
        if args:
            return (self._insert(args[0], block.prompt), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": self._insert(kwargs["hidden_states"], block.prompt)}

    def _insert(self, hidden: "Tensor", vectors: "Tensor") -> "Tensor":
        """Return hidden states [rows, tokens, width] with `vectors` [length, width] at the virtual tokens."""
        import torch
        from torch.nn.functional import embedding

        # The clamp gives vocabulary tokens a valid index; `where` below drops the vectors looked up for them.
        learned = embedding(self.index.clamp(min=0), vectors).to(hidden.dtype)
        return torch.where(self.index[..., None] >= 0, learned, hidden)


def hidden_states_of_prompt(
    model: "PreTrainedModel", stacks: "Sequence[Stack]", length: int
) -> "dict[nn.Module, Tensor]":
    """Return the input of each block [length, width] when the model reads only the virtual tokens."""
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
