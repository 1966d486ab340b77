"""Sharded training with PyTorch's `fully_shard` (FSDP2): each rank keeps a part of every weight, with its gradient and
optimizer state, and gathers the weights of one block at a time while it computes.

Accelerate's plugin for it is not used: on CPUs it is silently replaced by DistributedDataParallel, so the tests would
run something else than users do.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.blocks import stacks
from pipeline_lib.models.shards import free_gathered, is_sharded

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor, nn
    from torch.distributed.device_mesh import DeviceMesh
    from transformers import PreTrainedModel

Sharding = Literal["none", "full", "hybrid"]


def shard(model: "PreTrainedModel", sharding: Sharding, accelerator: "Accelerator") -> None:
    """Replace the weights of a model by this rank's shards of them.

    Blocks are groups of their own, whose weights are gathered and freed again one block after the other; everything
    else, with weights that are tied to each other, is one group. Gradients are summed over the ranks, as
    `collectives.sum_gradients` does, instead of averaged.

    Args:
        model: The model, on any device; equal on all ranks.
        sharding: full: over all ranks; hybrid: over the ranks of a machine, and the machines have copies.
        accelerator: The ranks and their devices.
    """
    from torch.distributed.fsdp import fully_shard

    mesh = _mesh(sharding, accelerator)
    for module in _groups(model):
        fully_shard(module, mesh=mesh)
    for group in _sharded_modules(model):
        group.set_gradient_divide_factor(1.0)
        group.set_force_sum_reduction_for_comms(True)  # gloo has no other reduction


def sum_over_shards(value: "Tensor", weights: "Iterable[Tensor]") -> "Tensor":
    """Return the sum of a value over the ranks among which `weights` are divided; the value itself if they are not."""
    sharded = next((weight for weight in weights if is_sharded(weight)), None)
    if sharded is None:
        return value
    from torch.distributed import all_reduce

    mesh: DeviceMesh = sharded.device_mesh  # type: ignore[attr-defined]
    all_reduce(value, group=mesh.get_group(mesh.ndim - 1))  # the last dimension of both kinds of mesh
    return value


def gather(model: "nn.Module", accelerator: "Accelerator") -> None:
    """Replace the shards of a model by whole weights in the CPU's memory, on rank 0; the other ranks get empty ones.

    The model can no longer be trained or run afterwards.
    """
    import torch
    from torch import nn

    free_gathered(model)
    whole: dict[int, nn.Parameter] = {}  # tied weights stay one parameter
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is None or not is_sharded(weight):
                continue
            if id(weight) not in whole:
                values = weight.detach().full_tensor().cpu()  # type: ignore[attr-defined]
                if not accelerator.is_main_process:
                    values = torch.empty(0, dtype=values.dtype)
                whole[id(weight)] = nn.Parameter(values, requires_grad=weight.requires_grad)
            module._parameters[name] = whole[id(weight)]


def refuse_unshardable(model: "PreTrainedModel", batch: "Mapping[str, Tensor]") -> None:
    """Raise RecipeError if a sharded model cannot be run: the family uses weights of blocks without calling them."""
    import torch

    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(**batch)
    except RuntimeError as error:
        if "DTensor" not in str(error):
            raise
        problem = f"is not supported by the family {model.config.model_type}, which does not call its layers as modules"
        raise RecipeError("execution.sharding", "full", problem, "Set it to none") from error
    finally:
        model.train(training)
    free_gathered(model)


def _mesh(sharding: Sharding, accelerator: "Accelerator") -> "DeviceMesh":
    """Return the ranks as a row (full), or as one row for each machine (hybrid)."""
    from torch.distributed import init_device_mesh

    ranks, device = accelerator.num_processes, accelerator.device.type
    if sharding == "full":
        return init_device_mesh(device, (ranks,))
    of_machine = int(os.environ["LOCAL_WORLD_SIZE"])
    return init_device_mesh(device, (ranks // of_machine, of_machine), mesh_dim_names=("replicate", "shard"))


def _groups(model: "PreTrainedModel") -> "Iterator[nn.Module]":
    """Yield the modules whose weights are gathered together, inner ones first: each block, then the model."""
    seen = set()
    for stack in stacks(model):
        for block in stack.blocks:
            for module in map(model.get_submodule, block.names):
                if id(module) not in seen:  # ALBERT has one block under many names
                    seen.add(id(module))
                    yield module
    yield model


def _sharded_modules(model: "nn.Module") -> "Iterator[Any]":
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            yield module
