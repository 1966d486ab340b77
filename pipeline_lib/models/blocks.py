"""The blocks of a model, found in its module tree: lists of modules that are called one after another."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from pipeline_lib.errors import RecipeError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


class Block(NamedTuple):
    """One layer of a stack. XLM and its kin keep the parts of a layer in lists of their own: then it has many names."""

    names: tuple[str, ...]
    module: "nn.Module"
    """The first part; the whole layer where it has one name."""


class Stack(NamedTuple):
    """An encoder or a decoder: the table of its tokens' embeddings, and its blocks."""

    embeddings: "nn.Module"
    blocks: list[Block]


def stacks(model: "PreTrainedModel") -> list[Stack]:
    """A model's stacks, an encoder before its decoder; empty where the module tree has none."""
    from transformers import PreTrainedModel

    backbone: PreTrainedModel = model.base_model  # type: ignore[assignment]
    prefix = next(f"{name}." if name else "" for name, module in model.named_modules() if module is backbone)
    modules = {prefix + name if name else prefix.rstrip("."): module for name, module in backbone.named_modules()}
    owners = {name: module for name, module in modules.items() if isinstance(module, PreTrainedModel)}
    found: dict[str, Stack] = {}
    for parent, lists in _outermost_lists(modules).items():
        inside = [owner for owner in owners if not owner or parent == owner or parent.startswith(f"{owner}.")]
        owner = max(inside, key=len)
        stack = found.setdefault(owner, Stack(owners[owner].get_input_embeddings(), []))
        stack.blocks.extend(_blocks(lists))
    return [stack for stack in found.values() if stack.blocks]


def require_stacks(model: "PreTrainedModel", kind: str) -> list[Stack]:
    """The same; raises RecipeError for the strategy `kind` where there are none, or their layers are no modules."""
    found = stacks(model)
    if not found or any(len(block.names) > 1 for stack in found for block in stack.blocks):
        problem = f"needs layers that are modules of their own, and the family {model.config.model_type} has none"
        raise RecipeError("strategies", kind, problem, "Choose another base or another strategy")
    return found


def block_names(model: "PreTrainedModel") -> tuple[str, ...]:
    """What the names of all modules and parameters inside blocks begin with."""
    return tuple(f"{name}." for stack in stacks(model) for block in stack.blocks for name in block.names)


def _outermost_lists(modules: "dict[str, nn.Module]") -> "dict[str, dict[str, nn.ModuleList]]":
    """Lists of modules that are in no other list, by the name of the module that holds them and their own."""
    from torch import nn

    found: dict[str, dict[str, nn.ModuleList]] = {}
    outer: list[str] = []
    for name, module in modules.items():
        if isinstance(module, nn.ModuleList) and len(module) and not any(name.startswith(f"{o}.") for o in outer):
            outer.append(name)
            found.setdefault(name.rpartition(".")[0], {})[name] = module
    return found


def _blocks(lists: "dict[str, nn.ModuleList]") -> list[Block]:
    """The blocks of lists that one module holds. Lists of equal length are parts of the same layers.

    A list of nothing but single matrices or norms holds no layers by itself.
    """
    by_length: dict[int, list[dict[str, nn.Module]]] = {}
    for name, module in lists.items():
        parts = dict(_flat(name, module))
        by_length.setdefault(len(parts), []).append(parts)
    blocks = []
    for alike in by_length.values():
        if any(next(part.children(), None) is not None for parts in alike for part in parts.values()):
            for layer in zip(*(parts.items() for parts in alike), strict=True):
                blocks.append(Block(tuple(name for name, _ in layer), layer[0][1]))
    return blocks


def _flat(name: str, modules: "nn.ModuleList") -> "Iterator[tuple[str, nn.Module]]":
    """The modules of a list, and of the lists in it, by name."""
    from torch import nn

    for index, module in modules.named_children():
        if isinstance(module, nn.ModuleList):
            yield from _flat(f"{name}.{index}", module)
        else:
            yield f"{name}.{index}", module
