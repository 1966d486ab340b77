"""Train only the embeddings of tokens that occur in the data; AdamW would otherwise process all of them in every step.

The cost of a step then does not depend on the vocabulary size; embeddings are half the weights of a small model.
"""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from pipeline_lib.data.examples import Examples

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel


class ReducedVocabulary:
    """A model's embedding table, reduced to the sorted token ids `tokens` [n] until `widen` is called.

    The other embeddings stay unchanged: weight decay does not shrink embeddings that are never trained.
    """

    def __init__(self, table: "nn.Embedding", tokens: np.ndarray):
        import torch

        self.table, self.tokens, self.whole, self.pad = table, torch.from_numpy(tokens), table.weight, table.padding_idx
        # token id -> row of the reduced table; -1 makes the lookup of an unexpected token fail
        place = torch.full((len(self.whole),), -1)
        place[self.tokens] = torch.arange(len(tokens))
        table.register_buffer("place", place, persistent=False)
        table.weight = self._parameter(self.whole.detach()[self.tokens])
        table.padding_idx = None if self.pad is None else int(place[self.pad])
        self.hook = table.register_forward_pre_hook(lambda table, args: (table.place[args[0]],))

    def widen(self) -> None:
        """Restore the full table with the trained embeddings."""
        import torch

        self.hook.remove()
        del self.table.place
        with torch.no_grad():
            self.whole[self.tokens] = self.table.weight.to(self.whole.device)
        self.table.weight = self._parameter(self.whole.detach().to(self.table.weight.device))
        self.table.padding_idx = self.pad

    def _parameter(self, values: "Tensor") -> "nn.Parameter":
        from torch import nn

        return nn.Parameter(values, requires_grad=self.table.weight.requires_grad)


def narrow_embeddings(
    model: "PreTrainedModel", trained: Collection[str], inputs: Sequence[Examples], pad: int
) -> ReducedVocabulary | None:
    """Reduce the model's embeddings to the tokens in `inputs` and `pad`.

    Returns None if the embeddings are not trained, are used elsewhere too (tied weights, a decoder with other texts),
    or are used with virtual tokens.
    """
    used, table = used_tokens(model, trained, inputs, pad), model.get_input_embeddings()
    return None if used is None else ReducedVocabulary(cast("nn.Embedding", table), used)


def used_tokens(
    model: "PreTrainedModel", trained: Collection[str], inputs: Sequence[Examples], pad: int
) -> np.ndarray | None:
    """Return the sorted ids [n] of the tokens that the embeddings can be reduced to; None if they cannot."""
    from torch import nn

    table, parameters = model.get_input_embeddings(), dict(model.named_parameters(remove_duplicate=False))
    names = [name for name, weight in parameters.items() if weight is getattr(table, "weight", None)]
    if type(table) is not nn.Embedding or len(names) != 1 or names[0] not in trained:
        return None
    if model.config.is_encoder_decoder:
        return None
    tokens = np.unique(np.concatenate([[pad], *(examples.ids.values for examples in inputs)])).astype(np.int64)
    # virtual tokens have negative ids
    return tokens if tokens[0] >= 0 else None
