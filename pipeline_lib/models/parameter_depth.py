"""Where each parameter stands in a model: embeddings, a block, or above them all."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.models.blocks import stacks
from pipeline_lib.models.outer_depth import what_parameters_feed
from pipeline_lib.strategies.base import ParameterInfo

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PLACES = "places.json"
ENCODER = re.compile(r"(^|\.)encoder\.")


def parameter_infos(model: "PreTrainedModel", head: set[str]) -> dict[str, ParameterInfo]:
    """Where each parameter stands, by name; `head` names the parameters that the base does not have.

    Blocks are numbered from 1, a decoder's after its encoder's. What strategies have added stands where the module that
    bears it stands.
    """
    names = [name for name, _ in model.named_parameters()]
    blocks = [block for stack in stacks(model) for block in stack.blocks]
    starts = {f"{name}.": depth for depth, block in enumerate(blocks, 1) for name in block.names}
    layers, fed = len(blocks), what_parameters_feed(model)
    found = {}
    for name in names:
        is_head, fixed = name in head, name in fed.unused and name not in head
        inside = next((depth for start, depth in starts.items() if name.startswith(start)), None)
        beside = 0 if fixed else fed.depth.get(name, layers + 1)
        depth = layers + 1 if is_head else beside if inside is None else inside
        found[name] = ParameterInfo(name, depth, layers, is_head, fixed)
    return found


def write_parameter_infos(model: "PreTrainedModel", head: set[str], path: Path) -> None:
    """Keep places and shapes, so that a plan can tell rates without loading a model."""
    shapes = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
    rows = [[*place, shapes[name]] for name, place in parameter_infos(model, head).items()]
    path.write_text(json.dumps(rows), encoding="utf-8")


def read_parameter_infos(path: Path) -> dict[ParameterInfo, list[int]]:
    """Shapes by place, as `write_places` has kept them."""
    return {ParameterInfo(*place): shape for *place, shape in json.loads(path.read_text(encoding="utf-8"))}
