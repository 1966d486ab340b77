"""Attention with dropout on the CPU, three times as fast as torch's, which falls back to fp32.

torch's fast kernels do not support dropout. Here matrix products use the precision of the inputs, as in every other
layer; the softmax accumulates in fp32 and rounds once.
"""

from math import isqrt
from typing import TYPE_CHECKING, Any

from pipeline_lib.training.fast_paths.dropout import noise
from pipeline_lib.training.fast_paths.packed_attention import mask_packed, packed_rows

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import PreTrainedModel

NAME = "tunesmith"
"""Name under which this attention is registered in transformers."""


def attend_faster(model: "PreTrainedModel") -> None:
    """Switch a model from torch's scaled dot-product attention to `attend`; other implementations are kept."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, attend)
        AttentionMaskInterface.register(NAME, make_mask)
        model.set_attn_implementation(NAME)


def make_mask(
    batch_size: int, q_length: int, kv_length: int, mask_function: Any, attention_mask: "Tensor | None" = None,
    use_vmap: bool = False, device: "torch.device | str" = "cpu", **others: Any,
) -> "Tensor | None":  # fmt: skip
    """Return the mask that transformers makes for torch's attention or, for packed rows, one mask for each of them.

    Packed rows are known by a single row without a padding mask that is more than causal. Masks that functions of the
    family itself have changed (`use_vmap`) are not taken apart.
    """
    from transformers.masking_utils import sdpa_mask

    is_plain = others.get("allow_is_causal_skip", True) or others.get("allow_is_bidirectional_skip", False)
    if not is_plain and not use_vmap and attention_mask is None and batch_size == 1 and q_length == kv_length:
        mask = mask_packed(q_length, mask_function, device)
        if mask is not None:
            return mask
    options: Any = {"mask_function": mask_function, "attention_mask": attention_mask, "use_vmap": use_vmap}
    return sdpa_mask(batch_size, q_length, kv_length, device=device, **options, **others)


def attend(
    module: "nn.Module", query: "Tensor", key: "Tensor", value: "Tensor", attention_mask: "Tensor | None",
    dropout: float = 0.0, scaling: float | None = None, **others: Any,
) -> "tuple[Tensor, None]":  # fmt: skip
    """Compute dropout(softmax(scaling Q K^T + mask)) V (Vaswani et al. 2017, equation 1).

    Query, key and value are [rows, heads, positions, width]; the result is [rows, positions, heads, width]. Packed rows
    are computed in the padded layout, each with its own mask.
    """
    rows = packed_rows(attention_mask)
    if rows is None:
        return _attend(module, query, key, value, attention_mask, dropout, scaling, **others)
    padded = (rows.pad(query), rows.pad(key), rows.pad(value))
    out, _ = _attend(module, *padded, None if rows.is_causal else attention_mask, dropout, scaling, **others)
    return rows.pack(out), None


def pack_tokens(model: "PreTrainedModel", longest: int, batch_tokens: int) -> int:
    """Return the maximum tokens of a pack, for rows of at most `longest` tokens.

    Attention that takes each row by itself has no limit of its own. Other attention computes a score for each pair of
    tokens of a pack: with this limit no more of them than for as many padded rows as a pass may have.
    """
    if model.config._attn_implementation in (NAME, "flash_attention_2"):
        return batch_tokens
    return min(batch_tokens, isqrt(batch_tokens * longest))


def _attend(
    module: "nn.Module", query: "Tensor", key: "Tensor", value: "Tensor", attention_mask: "Tensor | None",
    dropout: float, scaling: float | None, **others: Any,
) -> "tuple[Tensor, None]":  # fmt: skip
    """Call torch's function without dropout or on a GPU, where it is faster, and if heads share keys."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if not dropout or query.device.type != "cpu" or key.shape[1] != query.shape[1]:
        options: Any = others | {"dropout": dropout, "scaling": scaling}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    scores = query * (query.shape[-1] ** -0.5 if scaling is None else scaling) @ key.transpose(-1, -2)
    weights = _mask_scores(module, scores, attention_mask, **others).softmax(-1)
    return (weights * noise(weights, dropout) @ value).transpose(1, 2).contiguous(), None


def _mask_scores(
    module: "nn.Module", scores: "Tensor", mask: "Tensor | None", is_causal: bool | None = None,
    position_bias: "Tensor | None" = None, **others: Any,
) -> "Tensor":  # fmt: skip
    """Mask scores [rows, heads, positions, positions] with the lowest number of their type.

    As in transformers, a decoder without a mask gets a causal one.
    """
    import torch

    if position_bias is not None:
        scores = scores + position_bias
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    if mask is None and causal and scores.shape[-2] > 1:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if mask is None:
        return scores
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min) if mask.dtype == torch.bool else scores + mask
