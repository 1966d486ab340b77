"""Attention over packed rows, one row at a time: no row pays for the length of the others.

With a mask, n tokens in one packed row take n^2 scores, though each token attends to its own row only. Here queries,
keys and values are moved to a padded layout for the attention alone: the scores are as many as for padded rows, and the
other layers, where most of the time goes, still compute no padding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class PackedRows:
    """Where the tokens of n packed rows are in the padded layout."""

    rows: int
    longest: int
    places: "Tensor"
    """[tokens] index of each token in the padded layout [rows * longest]."""
    is_causal: bool
    """Whether each token attends to all tokens of its row up to itself."""

    def pad(self, packed: "Tensor") -> "Tensor":
        """Move [1, heads, tokens, width] to [rows, heads, longest, width], with zeros after the end of a row."""
        by_token = packed[0].transpose(0, 1)
        padded = by_token.new_zeros(self.rows * self.longest, *by_token.shape[1:])
        padded = padded.index_copy(0, self.places, by_token)
        return padded.unflatten(0, (self.rows, self.longest)).transpose(1, 2)

    def pack(self, padded: "Tensor") -> "Tensor":
        """Move [rows, longest, heads, width] to [1, tokens, heads, width]."""
        return padded.flatten(0, 1).index_select(0, self.places)[None]


def mask_packed(tokens: int, mask_function: "Callable[..., Tensor]", device: "torch.device | str") -> "Tensor | None":
    """Return the mask of each of the rows that a packed row of `tokens` tokens consists of.

    A row begins where a token does not attend to the one before it, so families need not say where; windows of
    attention, wherever they end, are in the mask.

    Args:
        tokens: Number of tokens.
        mask_function: transformers' function of the indices of batch, head, query and key.
        device: Where to put the mask.

    Returns:
        [rows, 1, longest, longest] whether a token attends to another; its attribute `packed` has the `PackedRows`.
        None if there is one row only.
    """
    import torch

    zero = torch.zeros((), dtype=torch.int64, device=device)
    later = torch.arange(1, tokens, device=device)
    begins = (~mask_function(zero, zero, later, later - 1)).nonzero()[:, 0] + 1
    if not len(begins):
        return None
    begins = torch.cat([begins.new_zeros(1), begins])
    lengths = torch.diff(begins, append=begins.new_full((1,), tokens))
    longest = int(lengths.max())
    columns = torch.arange(longest, device=device)
    used = columns < lengths[:, None]
    index = (begins[:, None] + columns).clamp(max=tokens - 1)
    # keys after the end of a row belong to the next one
    mask = mask_function(zero, zero, index[:, None, :, None], index[:, None, None, :]) & used[:, None, None, :]
    lower = torch.ones_like(mask[0, 0]).tril()
    is_causal = bool((mask == (lower & used[:, None, None, :]))[used[:, None]].all())
    mask |= torch.eye(longest, dtype=torch.bool, device=device)  # a query that attends to nothing would be NaN
    mask.packed = PackedRows(len(begins), longest, used.flatten().nonzero()[:, 0], is_causal)  # type: ignore[attr-defined]
    return mask


def packed_rows(mask: Any) -> PackedRows | None:
    """Return the packed rows that a mask belongs to; None for a mask of padded rows."""
    return getattr(mask, "packed", None)
