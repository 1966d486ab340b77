"""Sharded training with PyTorch's `fully_shard` (FSDP2): each rank keeps a part of every weight, with its gradient and
optimizer state, and gathers the weights of one block at a time while it computes.

Accelerate's plugin for it is not used: on CPUs it is silently replaced by DistributedDataParallel, so the tests would
run something else than users do.
"""

import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.blocks import stacks
from pipeline_lib.models.shards import free_gathered_weights, is_sharded, sharded_modules
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.training.distributed.collectives import any_rank
from pipeline_lib.training.frozen_backbone.layers import is_divided

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn
    from torch.distributed.device_mesh import DeviceMesh
    from transformers import PreTrainedModel

    from pipeline_lib.training.step import Stepper

log = logging.getLogger("tunesmith")
SHARE = 0.7
"""Share of a device's memory that a whole model may take before `auto` divides it; activations need the rest."""
Sharding = Literal["none", "full", "hybrid"]


def choose_sharding(recipe: Recipe, model: "PreTrainedModel", accelerator: "Accelerator") -> Sharding:
    """Return how a model is divided among the processes, alike on all of them.

    Args:
        recipe: The recipe.
        model: The whole model, its trained parameters marked.
        accelerator: The processes and their devices.
    """
    if accelerator.num_processes == 1:
        return "none"
    sharding = recipe.execution.sharding
    if sharding == "auto":
        is_too_large = why_not_sharded(recipe) is None and _copy_bytes(recipe, model) > SHARE * _memory(accelerator)
        sharding = "full" if any_rank(is_too_large, accelerator) else "none"
        if sharding == "full" and accelerator.is_main_process:
            log.info("%-11s dividing the model among %d processes", "finetune", accelerator.num_processes)
    return sharding


def refuse_sharding(recipe: Recipe) -> None:
    """Raise RecipeError if the recipe asks for shards and for something that cannot be computed on them."""
    if is_divided(recipe) and (reason := why_not_sharded(recipe)):
        raise RecipeError(
            "execution.sharding", recipe.execution.sharding, reason, "Set it to none, or change the other"
        )


def why_not_sharded(recipe: Recipe) -> str | None:
    """Return what in the recipe cannot be computed on shards; None if everything can."""
    optimizer = recipe.training.optimizer
    if not optimizer.takes_shards:
        return f"cannot be combined with the optimizer {optimizer.kind}, which reads whole matrices"
    if recipe.model.quantization:
        return "cannot be combined with model.quantization, whose packed weights cannot be divided"
    if recipe.execution.precision == "fp16":
        return "cannot be combined with precision fp16, whose loss scale is not shared"
    return None


def _copy_bytes(recipe: Recipe, model: "PreTrainedModel") -> int:
    """Return the bytes of a whole model with its gradients and its optimizer's state."""
    weights = [*model.parameters()]
    trained = sum(weight.nbytes for weight in weights if weight.requires_grad)
    return sum(weight.nbytes for weight in weights) + round(trained * (1 + recipe.training.optimizer.state_floats))


def _memory(accelerator: "Accelerator") -> int:
    """Return the bytes of memory of this process's device; of a machine's memory its share."""
    import psutil
    import torch

    if accelerator.device.type == "cuda":
        return torch.cuda.mem_get_info()[1]
    return psutil.virtual_memory().total // int(os.environ["LOCAL_WORLD_SIZE"])


def shard_model(model: "PreTrainedModel", sharding: Sharding, accelerator: "Accelerator") -> None:
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
    for module in groups_of(model):
        fully_shard(module, mesh=mesh)
    for group in sharded_modules(model):
        group.set_gradient_divide_factor(1.0)
        group.set_force_sum_reduction_for_comms(True)  # gloo has no other reduction


def gather(model: "nn.Module", accelerator: "Accelerator") -> None:
    """Replace the shards of a model by whole weights in the CPU's memory, on rank 0; the other ranks get empty ones.

    The model can no longer be trained or run afterwards.
    """
    import torch
    from torch import nn

    free_gathered_weights(model)
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


def refuse_unshardable(stepper: "Stepper") -> None:
    """Raise RecipeError if a sharded model cannot be run: the family uses weights of blocks without calling them."""
    import torch

    model = stepper.model
    model.eval()
    try:
        with torch.no_grad():
            stepper.outputs_of(np.array([0]))
    except RuntimeError as error:
        if "DTensor" not in str(error):
            raise
        problem = f"is not supported by the family {model.config.model_type}, which does not call its layers as modules"
        raise RecipeError("execution.sharding", "full", problem, "Set it to none") from error
    free_gathered_weights(model)


def _mesh(sharding: Sharding, accelerator: "Accelerator") -> "DeviceMesh":
    """Return the ranks as a row (full), or as one row for each machine (hybrid)."""
    from torch.distributed import init_device_mesh

    ranks, device = accelerator.num_processes, accelerator.device.type
    if sharding == "full":
        return init_device_mesh(device, (ranks,))
    of_machine = int(os.environ["LOCAL_WORLD_SIZE"])
    return init_device_mesh(device, (ranks // of_machine, of_machine), mesh_dim_names=("replicate", "shard"))


def groups_of(model: "PreTrainedModel") -> "Iterator[nn.Module]":
    """Yield the modules whose weights are gathered together, inner ones first: each block, then the model."""
    seen = set()
    for stack in stacks(model):
        for block in stack.blocks:
            for module in map(model.get_submodule, block.names):
                if id(module) not in seen:  # ALBERT has one block under many names
                    seen.add(id(module))
                    yield module
    yield model
