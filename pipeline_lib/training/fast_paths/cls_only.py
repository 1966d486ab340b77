"""A head that reads a text's first place alone needs no other place of the last block: most of its work is left out.

A sixth of the matrix products of a model of six blocks, a twelfth of one of twelve, in training and in answering.
"""

from types import MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "electra")
"""Families by `model_type` whose blocks are built as BERT's, and whose heads for texts read the first place."""


def compute_first_place_alone(model: "PreTrainedModel") -> None:
    """Have the last block of a text classifier put out [rows, 1, width]: of its first place, as it was before.

    That place still attends to all others. A model of another family is left as it is.
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
    """Attention across: from the first place to all [rows, places, width]. A mask of None has no padding."""
    from transformers.models.bert.modeling_bert import BertCrossAttention

    mask = None if attention_mask is None else attention_mask[..., :1, :]
    crossing: Any = BertCrossAttention.forward  # it has the very modules of attention within
    first = hidden[:, :1].contiguous()  # of a view torch would round otherwise where weights are frozen
    return crossing(attention, first, hidden, mask, **others)


def _add_to_first(module: "nn.Module", given: "tuple[Tensor, Tensor]") -> "tuple[Tensor, Tensor]":
    """What ends attention adds its input: of the first place here."""
    attended, hidden = given
    return attended, hidden[:, :1]
