"""Attention with dropout on the CPU, three times as fast as torch's, which falls back to fp32.

torch's fast kernels do not support dropout. Here matrix products use the precision of the inputs, as in every other
layer; the softmax accumulates in fp32 and rounds once.
"""

from typing import TYPE_CHECKING, Any

from pipeline_lib.training.fast_paths.dropout import noise

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

NAME = "tunesmith"
"""Name under which this attention is registered in transformers."""


def attend_faster(model: "PreTrainedModel") -> None:
    """Switch a model from torch's scaled dot-product attention to `attend`; other implementations are kept."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, attend)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)


def attend(
    module: "nn.Module", query: "Tensor", key: "Tensor", value: "Tensor", attention_mask: "Tensor | None",
    dropout: float = 0.0, scaling: float | None = None, **others: Any,
) -> "tuple[Tensor, None]":  # fmt: skip
    """Compute dropout(softmax(scaling Q K^T + mask)) V (Vaswani et al. 2017, equation 1).

    Query, key and value are [rows, heads, positions, width]; the result is [rows, positions, heads, width]. Calls
    torch's function without dropout or on a GPU, where it is faster, and if heads share keys, which it supports.
    """
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
