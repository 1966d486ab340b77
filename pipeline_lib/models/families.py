"""Find the attention, feed-forward and expert modules in a model's blocks.

Attention modules are recognised by their class name in transformers. The feed-forward consists of a block's other
matrices: the first one reads its input, the last one produces its output. Experts are modules with three-dimensional
parameters.
"""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.blocks import Block, block_names, stacks

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

Part = Literal["key", "value", "attention", "feed_in", "feed_out"]
"""Projections of keys or values, the output of attention, and the input and output of the feed-forward."""
OTHER_LAYOUTS = ("mobilebert",)
"""Families, by `model_type`, whose blocks have matrices that are neither attention nor feed-forward."""
TOGETHER = ("qkv", "wqkv", "attn", "in")
"""Words in the names of matrices that compute queries, keys and values together, such as `qkv_proj` or `c_attn`."""


def part_modules(model: "PreTrainedModel", part: Part, kind: str) -> "dict[str, nn.Module]":
    """Return the modules of a part by name, block by block; for a mixture of experts, the module around the experts.

    Raises:
        RecipeError: The blocks of the family have no such modules, which the strategy `kind` needs.
    """
    by_name: dict[str, nn.Module] = {}
    for stack in stacks(model) if model.config.model_type not in OTHER_LAYOUTS else ():
        for block in stack.blocks:
            in_block = _keys(block, part) if part in ("key", "value") else _end_modules(block, part)
            if not in_block:
                raise _missing_matrix_error(model, part, kind)
            by_name |= in_block
    if not by_name:
        raise _missing_matrix_error(model, part, kind)
    return by_name


def projections(model: "PreTrainedModel") -> list[str]:
    """Return the names of the weight matrices inside the blocks."""
    inside = block_names(model)
    return [name for name in _matrices("", model) if name.startswith(inside)]


def expert_weights(model: "PreTrainedModel") -> list[str]:
    """Return the names of the parameters that contain one matrix per expert."""
    inside = block_names(model)
    holders = {name: module for name, module in model.named_modules() if name.startswith(inside) and is_experts(module)}
    return [
        f"{name}.{parameter}"
        for name, module in holders.items()
        for parameter, weight in module.named_parameters(recurse=False)
        if weight.dim() == 3
    ]


def is_experts(module: "nn.Module") -> bool:
    """Return whether a module has the matrices of several experts in one parameter."""
    named = "expert" in type(module).__name__.lower() or "moe" in type(module).__name__.lower()
    return named and any(parameter.dim() == 3 for parameter in module.parameters(recurse=False))


def _missing_matrix_error(model: "PreTrainedModel", part: Part, kind: str) -> RecipeError:
    what = {"key": "keys", "value": "values", "attention": "attention output"}.get(part, "feed-forward")
    problem = f"needs a matrix for the {what}, but the blocks of the family {model.config.model_type} have none"
    return RecipeError("strategies", kind, problem, "Choose another base, or another strategy such as lora")


def _end_modules(block: Block, part: Part) -> "dict[str, nn.Module]":
    """Return the last modules of a block's attention, or the first or last module of its feed-forward."""
    name = block.names[0]
    attentions = _attentions(block)
    if part == "attention":
        by_attention = [_matrices(prefix, module) for prefix, module in attentions.items()]
        return dict([*inner.items()][-1] for inner in by_attention if inner)
    if around := _find_expert_parent(block):
        return around
    matrices = _matrices(name, block.module)
    feed_forward = [(name, matrix) for name, matrix in matrices.items() if not _is_within(name, attentions)]
    if not feed_forward:
        return {}
    return dict([feed_forward[0] if part == "feed_in" else feed_forward[-1]])


def _find_expert_parent(block: Block) -> "dict[str, nn.Module]":
    """Return the module around a block's router and experts, if it has any."""
    inner = dict(block.module.named_modules())
    name = next((name for name, module in inner.items() if is_experts(module)), "")
    above = name.split(".base_layer")[0].rpartition(".")[0]  # LoRA may have wrapped the experts
    return {f"{block.names[0]}.{above}": inner[above]} if above else {}


def _keys(block: Block, part: Part) -> "dict[str, nn.Module]":
    """Return the matrices of a block's attention that compute keys, or values; they may compute others as well."""
    by_name: dict[str, nn.Module] = {}
    for prefix, module in _attentions(block).items():
        by_name |= {name: matrix for name, matrix in _matrices(prefix, module).items() if part in _computes(name)}
    return by_name


def _computes(name: str) -> set[str]:
    """Return which of keys and values an attention matrix computes, judging by its name."""
    words = set(re.split(r"[._]", name.rpartition(".")[2].lower()))
    if words & {"pos", "a", "kernel", "out"}:  # projections of positions or of compressed inputs
        return set()
    if (words & {*TOGETHER} and not words & {"q", "query"}) or ("query" in words and "key" in words):
        return {"key", "value"}
    computed: set[str] = set()
    if words & {"kv", "k", "key"}:
        computed.add("key")
    if words & {"kv", "v", "value"}:
        computed.add("value")
    return computed


def _attentions(block: Block) -> "dict[str, nn.Module]":
    """Return the outermost attention modules of a block by name, including a decoder's cross-attention."""
    outermost: dict[str, nn.Module] = {}
    for name, module in block.module.named_modules(prefix=block.names[0]):
        if "Attention" in type(module).__name__ and not _is_within(name, outermost):
            outermost[name] = module
    return outermost


def _is_within(name: str, outer: Iterable[str]) -> bool:
    return any(name.startswith(f"{above}.") for above in outer)


def _matrices(prefix: str, module: "nn.Module") -> "dict[str, nn.Module]":
    """Return matrices by name, including those that a strategy has wrapped or added an adapter to."""
    matrices: dict[str, nn.Module] = {}
    for name, inner in module.named_modules(prefix=prefix):
        if _is_matrix(inner) and not _is_within(name, matrices):  # matrices inside a wrapper or an adapter do not count
            matrices[name] = inner
    return matrices


def _is_matrix(module: "nn.Module") -> bool:
    from peft.tuners.tuners_utils import BaseTunerLayer
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    plain = module.get_base_layer() if isinstance(module, BaseTunerLayer) else module
    return isinstance(plain, (nn.Linear, Conv1D))
