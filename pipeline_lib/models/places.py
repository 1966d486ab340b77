"""Where each parameter stands in a model: embeddings, a block, or above them all."""

import re
from typing import TYPE_CHECKING

from pipeline_lib.strategies.base import Place

if TYPE_CHECKING:
    from torch import nn


def places(model: "nn.Module", head: set[str]) -> dict[str, Place]:
    """Where each parameter stands, by name; `head` names the parameters that the base does not have.

    Blocks are numbered by the first number in a parameter's name, a decoder's after its encoder's.
    """
    names = [name for name, _ in model.named_parameters()]
    encoder = 1 + max((_block(name) for name in names if ".decoder." not in f".{name}"), default=-1)
    numbered = {name: _block(name) + encoder * (".decoder." in f".{name}") for name in names if _block(name) >= 0}
    layers = 1 + max(numbered.values(), default=-1)
    return {name: Place(name, _depth(name, numbered, layers, name in head), layers, name in head) for name in names}


def _block(name: str) -> int:
    number = re.search(r"\.(\d+)\.", name)
    return int(number[1]) if number else -1


def _depth(name: str, numbered: dict[str, int], layers: int, head: bool) -> int:
    if head or (name not in numbered and not re.search(r"embed|wte|wpe|shared", name)):
        return layers + 1
    return numbered[name] + 1 if name in numbered else 0
