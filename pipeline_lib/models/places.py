"""Where each parameter stands in a model: embeddings, a block, or above them all."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.models.blocks import stacks
from pipeline_lib.models.outer_depth import outer_depths
from pipeline_lib.strategies.base import Place

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PLACES = "places.json"
ENCODER = re.compile(r"(^|\.)encoder\.")


def places(model: "PreTrainedModel", head: set[str]) -> dict[str, Place]:
    """Where each parameter stands, by name; `head` names the parameters that the base does not have.

    Blocks are numbered from 1, a decoder's after its encoder's. What strategies have added stands where the module that
    bears it stands.
    """
    names = [name for name, _ in model.named_parameters()]
    blocks = [block for stack in stacks(model) for block in stack.blocks]
    starts = {f"{name}.": depth for depth, block in enumerate(blocks, 1) for name in block.names}
    inside = {name: depth for name in names if name not in head and (depth := _block_of(name, starts)) is not None}
    outside = _outside(model, [name for name in names if name not in head and name not in inside], len(blocks))
    depths: dict[str, int | None] = {**inside, **outside, **dict.fromkeys(head, len(blocks) + 1)}
    return {
        name: Place(name, depths[name] or 0, len(blocks), name in head, fixed=depths[name] is None) for name in names
    }


def _block_of(name: str, starts: dict[str, int]) -> int | None:
    """The number of the block that a parameter is in."""
    return next((depth for start, depth in starts.items() if name.startswith(start)), None)


def _outside(model: "PreTrainedModel", names: list[str], layers: int) -> dict[str, int | None]:
    """Depths of parameters in no block; None where nothing can be learned of one. Without blocks all are above."""
    found = outer_depths(model, names) if names and layers else {}
    return {name: found.get(name, layers + 1) for name in names}


def write_places(model: "PreTrainedModel", head: set[str], path: Path) -> None:
    """Keep places and shapes, so that a plan can tell rates without loading a model."""
    shapes = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
    rows = [[*place, shapes[name]] for name, place in places(model, head).items()]
    path.write_text(json.dumps(rows), encoding="utf-8")


def read_places(path: Path) -> dict[Place, list[int]]:
    """Shapes by place, as `write_places` has kept them."""
    return {Place(*place): shape for *place, shape in json.loads(path.read_text(encoding="utf-8"))}
