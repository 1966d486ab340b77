"""Where each parameter stands in a model: embeddings, a block, or above them all."""

import re
from typing import TYPE_CHECKING

from pipeline_lib.strategies.base import Place

if TYPE_CHECKING:
    from torch import nn

BLOCK = re.compile(r"\.(\d+)\.")
ENCODER, DECODER = re.compile(r"(^|\.)encoder\."), re.compile(r"(^|\.)decoder\.")
EMBEDDINGS = re.compile(r"embed(?!_out)|wte|wpe|shared|project_in")


def places(model: "nn.Module", head: set[str]) -> dict[str, Place]:
    """Where each parameter stands, by name; `head` names the parameters that the base does not have.

    Blocks are numbered by the first number in a parameter's name, a decoder's after its encoder's. What strategies
    have added stands where the module that bears it stands.
    """
    names = [name for name, _ in model.named_parameters()]
    blocks = {name: int(found[1]) for name in names if name not in head and (found := BLOCK.search(name))}
    encoder = 1 + max((block for name, block in blocks.items() if not DECODER.search(name)), default=-1)
    depths = {name: 1 + block + encoder * bool(DECODER.search(name)) for name, block in blocks.items()}
    layers = max(depths.values(), default=0)
    return {
        name: Place(name, layers + 1 if name in head else _depth(name, depths, encoder, layers), layers, name in head)
        for name in names
    }


def _depth(name: str, depths: dict[str, int], encoder: int, layers: int) -> int:
    if name in depths:
        return depths[name]
    if EMBEDDINGS.search(name):
        return 0
    # what ends an encoder below a decoder goes with the encoder's uppermost block
    return encoder if encoder < layers and ENCODER.search(name) else layers + 1
