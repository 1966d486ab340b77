"""Compute only the first position in the last block of a text classifier, as its head reads nothing else.

This saves a sixth of the matrix products of a model with six blocks and a twelfth with twelve, both in training and in
prediction.
"""

from types import MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "electra")
"""Values of `model_type` with blocks like BERT's and a text classification head that reads the first position."""


def compute_first_place_alone(model: "PreTrainedModel") -> None:
    """Patch the last block of a text classifier to output only the first position, [rows, 1, width].

    That position still attends to all others, so its output is unchanged. Other families are not patched.
    """
    if model.config.model_type not in FAMILIES or model.config.is_decoder:
        return
    base: Any = model.base_model
    attention = base.encoder.layer[-1].attention
    attention.self.forward = MethodType(_attend, attention.self)
    attention.output.register_forward_pre_hook(_add_to_first)


def _attend(
    attention: "nn.Module", hidden: "Tensor", attention_mask: "Tensor | None" = None,
    encoder_hidden_states: None = None, **others: Any,
) -> Any:  # fmt: skip
    """Attend from the first position to all positions of `hidden` [rows, positions, width]; mask None: no padding."""
    from transformers.models.bert.modeling_bert import BertCrossAttention

    mask = None if attention_mask is None else attention_mask[..., :1, :]
    # cross-attention uses the same submodules as self-attention, but takes queries and keys from different tensors
    cross_attention: Any = BertCrossAttention.forward
    first = hidden[:, :1].contiguous()  # with a view, torch rounds differently if weights are frozen
    return cross_attention(attention, first, hidden, mask, **others)


def _add_to_first(module: "nn.Module", inputs: "tuple[Tensor, Tensor]") -> "tuple[Tensor, Tensor]":
    """Reduce the residual input of the attention's output layer to the first position, to match the attention."""
    attended, hidden = inputs
    return attended, hidden[:, :1]
