"""Find the blocks of a model in its module tree, where they are lists of modules."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from pipeline_lib.errors import RecipeError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


class Block(NamedTuple):
    """One layer of a stack. XLM and similar families keep the parts of a layer in separate lists, one name for each."""

    names: tuple[str, ...]
    module: "nn.Module"
    """The whole layer if it has one name, else its first part."""


class Stack(NamedTuple):
    """An encoder or a decoder: its token embedding table and its blocks."""

    embeddings: "nn.Module"
    blocks: list[Block]


def stacks(model: "PreTrainedModel") -> list[Stack]:
    """Return the stacks of a model, an encoder before its decoder; empty if the module tree has none."""
    from transformers import PreTrainedModel

    backbone: PreTrainedModel = model.base_model  # type: ignore[assignment]
    prefix = next(f"{name}." if name else "" for name, module in model.named_modules() if module is backbone)
    modules = {prefix + name if name else prefix.rstrip("."): module for name, module in backbone.named_modules()}
    # A list of blocks belongs to the innermost PreTrainedModel around it: the encoder, the decoder or the backbone.
    owners = {name: module for name, module in modules.items() if isinstance(module, PreTrainedModel)}
    by_owner: dict[str, Stack] = {}
    for parent, lists in _outermost_lists(modules).items():
        inside = [owner for owner in owners if not owner or parent == owner or parent.startswith(f"{owner}.")]
        owner = max(inside, key=len)
        stack = by_owner.setdefault(owner, Stack(owners[owner].get_input_embeddings(), []))
        stack.blocks.extend(_blocks(lists))
    return [stack for stack in by_owner.values() if stack.blocks]


def require_stacks(model: "PreTrainedModel", kind: str) -> list[Stack]:
    """Return the stacks of a model; raise RecipeError for the strategy `kind` unless each layer is one module."""
    model_stacks = stacks(model)
    if not model_stacks or any(len(block.names) > 1 for stack in model_stacks for block in stack.blocks):
        problem = f"needs layers that are single modules, which the family {model.config.model_type} does not have"
        raise RecipeError("strategies", kind, problem, "Choose another base or another strategy")
    return model_stacks


def block_names(model: "PreTrainedModel") -> tuple[str, ...]:
    """Return the name prefixes of all modules and parameters inside blocks."""
    return tuple(f"{name}." for stack in stacks(model) for block in stack.blocks for name in block.names)


def _outermost_lists(modules: "dict[str, nn.Module]") -> "dict[str, dict[str, nn.ModuleList]]":
    """Return the module lists that are not inside another list, by the name of their parent and their own name."""
    from torch import nn

    by_parent: dict[str, dict[str, nn.ModuleList]] = {}
    outermost: list[str] = []
    for name, module in modules.items():
        if not isinstance(module, nn.ModuleList) or not len(module):
            continue
        if any(name.startswith(f"{outer}.") for outer in outermost):
            continue
        outermost.append(name)
        by_parent.setdefault(name.rpartition(".")[0], {})[name] = module
    return by_parent


def _blocks(lists: "dict[str, nn.ModuleList]") -> list[Block]:
    """Return the blocks in the lists of one module. Lists of equal length contain parts of the same layers.

    Lists that contain only leaf modules, such as matrices or norms, are not layers by themselves.
    """
    by_length: dict[int, list[dict[str, nn.Module]]] = {}
    for name, module in lists.items():
        parts = dict(_flat(name, module))
        by_length.setdefault(len(parts), []).append(parts)
    blocks = []
    for same_length in by_length.values():
        if any(next(part.children(), None) is not None for parts in same_length for part in parts.values()):
            # layer i consists of item i of each list
            for layer in zip(*(parts.items() for parts in same_length), strict=True):
                blocks.append(Block(tuple(name for name, _ in layer), layer[0][1]))
    return blocks


def _flat(name: str, modules: "nn.ModuleList") -> "Iterator[tuple[str, nn.Module]]":
    """Yield the modules of a list, and of nested lists, with their names."""
    from torch import nn

    for index, module in modules.named_children():
        if isinstance(module, nn.ModuleList):
            yield from _flat(f"{name}.{index}", module)
        else:
            yield f"{name}.{index}", module
