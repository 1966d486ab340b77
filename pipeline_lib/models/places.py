"""Where each parameter stands in a model: embeddings, a block, or above them all."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.strategies.base import Place

if TYPE_CHECKING:
    from torch import nn

PLACES = "places.json"
BLOCK = re.compile(r"\.(\d+)\.")
ENCODER, DECODER = re.compile(r"(^|\.)encoder\."), re.compile(r"(^|\.)decoder\.")
PROMPT_IN_BLOCK = re.compile(r"\.\d+\.prompt$")
"""The names of virtual tokens' vectors in blocks."""
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


def write_places(model: "nn.Module", head: set[str], path: Path) -> None:
    """Keep places and shapes, so that a plan can tell rates without loading a model."""
    shapes = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
    rows = [[*place, shapes[name]] for name, place in places(model, head).items()]
    path.write_text(json.dumps(rows), encoding="utf-8")


def read_places(path: Path) -> dict[Place, list[int]]:
    """Shapes by place, as `write_places` has kept them."""
    return {Place(*place): shape for *place, shape in json.loads(path.read_text(encoding="utf-8"))}


def _depth(name: str, depths: dict[str, int], encoder: int, layers: int) -> int:
    if name in depths:
        return depths[name]
    if EMBEDDINGS.search(name):
        return 0
    # what ends an encoder below a decoder goes with the encoder's uppermost block
    return encoder if encoder < layers and ENCODER.search(name) else layers + 1


def is_deep(model: "nn.Module") -> bool:
    """Whether the model's blocks have virtual tokens of their own, so that a decoder's text begins with some too."""
    return any(PROMPT_IN_BLOCK.search(name) for name, _ in model.named_parameters())
