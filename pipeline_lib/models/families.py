"""Which modules of a model's blocks play which part: attention, feed-forward, experts.

Attention is a module whose class is called so in transformers; the feed-forward is what matrices a block has beside
it. The first of these reads its input, the last one ends it. Experts are a module of three-dimensional parameters.
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
"""What projects keys or values, what ends attention, what reads the feed-forward's input, and what ends it."""
OTHER_LAYOUTS = ("mobilebert",)
"""Families, by `model_type`, whose blocks have matrices that belong to neither attention nor feed-forward."""
TOGETHER = ("qkv", "wqkv", "attn", "in")
"""Words in the names of matrices that compute queries, keys and values in one product: `qkv_proj`, `c_attn`."""


def modules(model: "PreTrainedModel", part: Part, kind: str) -> "dict[str, nn.Module]":
    """The modules that play a part, by name, block by block; of a mixture of experts the module around them.

    Raises RecipeError where the strategy `kind` meets a family whose blocks have no such modules.
    """
    found: dict[str, nn.Module] = {}
    for stack in stacks(model) if model.config.model_type not in OTHER_LAYOUTS else ():
        for block in stack.blocks:
            here = _keys(block, part) if part in ("key", "value") else _ends(block, part)
            if not here:
                raise _lacking(model, part, kind)
            found |= here
    if not found:
        raise _lacking(model, part, kind)
    return found


def projections(model: "PreTrainedModel") -> list[str]:
    """Names of the weight matrices that multiply what goes through the blocks."""
    inside = block_names(model)
    return [name for name in _matrices("", model) if name.startswith(inside)]


def expert_weights(model: "PreTrainedModel") -> list[str]:
    """Names of the parameters that hold one matrix for each expert."""
    inside = block_names(model)
    holders = {name: module for name, module in model.named_modules() if name.startswith(inside) and is_experts(module)}
    return [
        f"{name}.{each}"
        for name, module in holders.items()
        for each, weight in module.named_parameters(recurse=False)
        if weight.dim() == 3
    ]


def is_experts(module: "nn.Module") -> bool:
    """Whether a module has the matrices of several experts in one parameter."""
    named = "expert" in type(module).__name__.lower() or "moe" in type(module).__name__.lower()
    return named and any(parameter.dim() == 3 for parameter in module.parameters(recurse=False))


def _lacking(model: "PreTrainedModel", part: Part, kind: str) -> RecipeError:
    what = {"key": "keys", "value": "values", "attention": "end of attention"}.get(part, "feed-forward")
    problem = f"finds no matrix for the {what} in the blocks of the family {model.config.model_type}"
    return RecipeError("strategies", kind, problem, "Choose another base, or another strategy such as lora")


def _ends(block: Block, part: Part) -> "dict[str, nn.Module]":
    """The modules of a block that end attention, or that begin or end its feed-forward."""
    name = block.names[0]
    attentions = _attentions(block)
    if part == "attention":
        inner = {above: _matrices(above, module) for above, module in attentions.items()}
        last = [[*matrices.items()][-1] for matrices in inner.values() if matrices]
        return dict(last)
    beside = {n: m for n, m in _matrices(name, block.module).items() if not _within(n, attentions)}
    if around := _around_experts(block):
        return around
    if not beside:
        return {}
    first, *_, last_one = [*beside.items(), *beside.items()]
    return dict([first if part == "feed_in" else last_one])


def _around_experts(block: Block) -> "dict[str, nn.Module]":
    """The module that holds a block's router and experts, where it has some."""
    inner = dict(block.module.named_modules())
    name = next((name for name, module in inner.items() if is_experts(module)), "")
    above = name.split(".base_layer")[0].rpartition(".")[0]  # LoRA may have wrapped the experts
    return {f"{block.names[0]}.{above}": inner[above]} if above else {}


def _keys(block: Block, part: Part) -> "dict[str, nn.Module]":
    """The matrices of a block's attention that compute keys, or values, among others."""
    found: dict[str, nn.Module] = {}
    for name, module in _attentions(block).items():
        found |= {each: matrix for each, matrix in _matrices(name, module).items() if part in _computes(each)}
    return found


def _computes(name: str) -> set[str]:
    """What a matrix of attention computes by its name; those of positions and of compressed inputs compute neither."""
    words = set(re.split(r"[._]", name.rpartition(".")[2].lower()))
    if words & {"pos", "a", "kernel", "out"}:
        return set()
    if (words & {*TOGETHER} and not words & {"q", "query"}) or ("query" in words and "key" in words):
        return {"key", "value"}
    both = {"key", "value"} if "kv" in words else set()
    return both | ({"key"} if words & {"k", "key"} else set()) | ({"value"} if words & {"v", "value"} else set())


def _attentions(block: Block) -> "dict[str, nn.Module]":
    """The outermost modules of attention in a block, by name: of a decoder's also the one that reads its encoder."""
    found: dict[str, nn.Module] = {}
    for name, module in block.module.named_modules(prefix=block.names[0]):
        if "Attention" in type(module).__name__ and not _within(name, found):
            found[name] = module
    return found


def _within(name: str, outer: Iterable[str]) -> bool:
    return any(name.startswith(f"{above}.") for above in outer)


def _matrices(prefix: str, module: "nn.Module") -> "dict[str, nn.Module]":
    """Matrices by name; one that a strategy has wrapped or given an adapter is one still."""
    found: dict[str, nn.Module] = {}
    for name, inner in module.named_modules(prefix=prefix):
        if _is_matrix(inner) and not _within(name, found):
            found[name] = inner
    return found


def _is_matrix(module: "nn.Module") -> bool:
    from peft.tuners.tuners_utils import BaseTunerLayer
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    plain = module.get_base_layer() if isinstance(module, BaseTunerLayer) else module
    return isinstance(plain, (nn.Linear, Conv1D))
