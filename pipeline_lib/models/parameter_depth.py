"""Determine the depth of each parameter: in the embeddings, in a block, or above all blocks."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.models.blocks import stacks
from pipeline_lib.models.outer_depth import trace_parameters
from pipeline_lib.strategies.base import ParameterInfo

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

PLACES = "places.json"
ENCODER = re.compile(r"(^|\.)encoder\.")


def parameter_infos(model: "PreTrainedModel", head: set[str]) -> dict[str, ParameterInfo]:
    """Return the position of each parameter by name.

    Blocks are numbered from 1, a decoder's after its encoder's. A parameter added by a strategy has the depth of the
    module that contains it.

    Args:
        model: The model, with the strategies' modules injected.
        head: Names of the parameters that the base does not have.
    """
    blocks = [block for stack in stacks(model) for block in stack.blocks]
    prefixes = {f"{name}.": depth for depth, block in enumerate(blocks, 1) for name in block.names}
    layers, fed = len(blocks), trace_parameters(model)
    infos = {}
    for name, _ in model.named_parameters():
        is_head = name in head
        fixed = name in fed.unused and not is_head
        block_depth = next((depth for prefix, depth in prefixes.items() if name.startswith(prefix)), None)
        if is_head:
            depth = layers + 1
        elif block_depth is not None:
            depth = block_depth
        elif fixed:
            depth = 0
        else:
            depth = fed.depth.get(name, layers + 1)
        infos[name] = ParameterInfo(name, depth, layers, is_head, fixed)
    return infos


def write_parameter_infos(model: "PreTrainedModel", head: set[str], path: Path) -> None:
    """Write positions and shapes, so that a plan can show learning rates without loading a model."""
    shapes = {name: list(shape_of(parameter)) for name, parameter in model.named_parameters()}
    rows = [[*info, shapes[name]] for name, info in parameter_infos(model, head).items()]
    path.write_text(json.dumps(rows), encoding="utf-8")


def read_parameter_infos(path: Path) -> dict[ParameterInfo, list[int]]:
    """Read the shapes written by `write_parameter_infos`, by parameter."""
    return {ParameterInfo(*info): shape for *info, shape in json.loads(path.read_text(encoding="utf-8"))}


def shape_of(parameter: "nn.Parameter") -> tuple[int, ...]:
    """Return the shape of a parameter; of one in 4 bits, whose numbers share bytes, the shape of the whole matrix."""
    state = getattr(parameter, "quant_state", None)
    return tuple(parameter.shape if state is None else state.shape)
