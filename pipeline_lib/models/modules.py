"""Which modules of a model play which part, by the names that transformers gives them."""

import re
from typing import TYPE_CHECKING, NamedTuple

from pipeline_lib.errors import RecipeError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


class Parts(NamedTuple):
    """Names within a block, as regular expressions; where a family computes several parts in one, they are equal."""

    query: str
    key: str
    value: str
    attention: str
    """The projection that ends attention."""
    feed_in: str
    """What reads the feed-forward's input."""
    feed_out: str
    """The projection that ends the feed-forward."""


_BERT = Parts(
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
_DEBERTA = _BERT._replace(
    query="attention.self.query_proj", key="attention.self.key_proj", value="attention.self.value_proj"
)
_DISTILBERT = Parts(
    "attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "ffn.lin1", "ffn.lin2"
)
_MODERNBERT = Parts("attn.Wqkv", "attn.Wqkv", "attn.Wqkv", "attn.Wo", "mlp.Wi", "mlp.Wo")
_GPT2 = Parts("attn.c_attn", "attn.c_attn", "attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
_NEOX = Parts(
    "attention.query_key_value",
    "attention.query_key_value",
    "attention.query_key_value",
    "attention.dense",
    "mlp.dense_h_to_4h",
    "mlp.dense_4h_to_h",
)
_LLAMA = Parts(
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj"
)
_OPT = _LLAMA._replace(attention="self_attn.out_proj", feed_in="fc1", feed_out="fc2")
_BART = Parts(
    "(self|encoder)_attn.q_proj",
    "(self|encoder)_attn.k_proj",
    "(self|encoder)_attn.v_proj",
    "(self|encoder)_attn.out_proj",
    "fc1",
    "fc2",
)
_T5 = Parts(
    "(Self|EncDec)Attention.q",
    "(Self|EncDec)Attention.k",
    "(Self|EncDec)Attention.v",
    "(Self|EncDec)Attention.o",
    "DenseReluDense.wi(_0)?",
    "DenseReluDense.wo",
)
FAMILIES = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "electra"), _BERT),
    **{"deberta-v2": _DEBERTA, "distilbert": _DISTILBERT, "modernbert": _MODERNBERT},
    **{"gpt2": _GPT2, "gpt_neox": _NEOX, "opt": _OPT},
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"), _LLAMA),
    **{"bart": _BART, "t5": _T5, "mt5": _T5},
}
"""Parts by `model_type`, the family's name in a model's config.json."""


def modules(model: "PreTrainedModel", part: str, kind: str) -> "dict[str, nn.Module]":
    """The modules that play a part of `Parts`, by name, block by block.

    Raises RecipeError where the strategy `kind` meets a family that stands in no line here.
    """
    family = str(model.config.model_type)
    if family not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise RecipeError("strategies", kind, f"knows no modules of the family {family}", f"Choose a base of: {known}")
    name_of = re.compile(rf".*\.\d+\.{getattr(FAMILIES[family], part)}")
    return {name: module for name, module in model.named_modules() if name_of.fullmatch(name)}


def projections(model: "PreTrainedModel") -> list[str]:
    """Names of the weight matrices that multiply what goes through the blocks."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    kinds = (nn.Linear, Conv1D)
    return [name for name, part in model.named_modules() if isinstance(part, kinds) and re.search(r"\.\d+\.", name)]


class Stack(NamedTuple):
    """An encoder or a decoder: the table of its tokens' embeddings, and its blocks."""

    embeddings: "nn.Module"
    blocks: "nn.ModuleList"


def stacks(model: "PreTrainedModel", kind: str) -> list[Stack]:
    """A model's stacks, an encoder before its decoder; raises RecipeError for the strategy `kind` if there are none."""
    from torch import nn
    from transformers import PreTrainedModel
    from transformers.modeling_layers import GradientCheckpointingLayer

    found, owners = [], {"": model}
    for name, module in model.named_modules():
        if isinstance(module, PreTrainedModel):
            owners[f"{name}." if name else ""] = module
        if isinstance(module, nn.ModuleList) and len(module) and isinstance(module[0], GradientCheckpointingLayer):
            owner = owners[max((above for above in owners if name.startswith(above)), key=len)]
            found.append(Stack(owner.get_input_embeddings(), module))
    if not found:
        family = model.config.model_type
        raise RecipeError("strategies", kind, f"finds no blocks in the family {family}", "Choose another base")
    return found
