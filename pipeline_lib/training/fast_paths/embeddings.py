"""Training those embeddings alone that the rows have: AdamW moves no other, but would pay for all in every step.

What a step then costs no longer depends on how many tokens a tokenizer knows, which is half of a small model's weights.
"""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.data.examples import Examples

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel


class Vocabulary:
    """A model's table of embeddings, narrowed to `tokens` [n], their ids in order, until it is widened again.

    The other rows have no gradient and stay as they are: weight decay does not shrink what nothing is learned of.
    """

    def __init__(self, table: "nn.Embedding", tokens: np.ndarray):
        import torch

        self.table, self.tokens, self.whole, self.pad = table, torch.from_numpy(tokens), table.weight, table.padding_idx
        place = torch.full((len(self.whole),), -1)  # the table itself refuses a token that it was not told of
        place[self.tokens] = torch.arange(len(tokens))
        table.register_buffer("place", place, persistent=False)
        table.weight = self._parameter(self.whole.detach()[self.tokens])
        table.padding_idx = None if self.pad is None else int(place[self.pad])
        self.hook = table.register_forward_pre_hook(lambda table, given: (table.place[given[0]],))

    def widen(self) -> None:
        """Give the model its whole table back, with what was learned."""
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


def narrowed(
    model: "PreTrainedModel", trained: Collection[str], inputs: Sequence[Examples], pad: int
) -> Vocabulary | None:
    """The model's vocabulary, narrowed to what stands in `inputs` and to `pad`.

    None where the embeddings are not trained, are read or written elsewhere too (tied weights, a decoder with texts of
    its own), or are read with virtual tokens.
    """
    from torch import nn

    table, names = model.get_input_embeddings(), dict(model.named_parameters(remove_duplicate=False))
    places = [name for name, weight in names.items() if weight is getattr(table, "weight", None)]
    if type(table) is not nn.Embedding or len(places) != 1 or places[0] not in trained:
        return None
    if model.config.is_encoder_decoder:
        return None
    tokens = np.unique(np.concatenate([[pad], *(each.ids.values for each in inputs)])).astype(np.int64)
    return Vocabulary(table, tokens) if tokens[0] >= 0 else None
