"""Weights of which each process of a training keeps a part: PyTorch's DTensor, as `fully_shard` makes them."""

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


def is_sharded(weight: "Tensor") -> bool:
    """Return whether a weight or gradient is a shard."""
    module = sys.modules.get("torch.distributed.tensor")  # `shard` imports it, which takes half a second
    return module is not None and isinstance(weight, module.DTensor)


def local(tensor: "Tensor") -> "Tensor":
    """Return this process's part of a tensor: the whole tensor if it is not sharded."""
    sharded: Any = tensor
    return sharded.to_local() if is_sharded(tensor) else tensor


def local_part(whole: "Tensor", weight: "Tensor") -> "Tensor":
    """Return the part of `whole`, equal in all processes, that belongs to this process's part of `weight`."""
    if not is_sharded(weight):
        return whole
    from torch.distributed.tensor import distribute_tensor

    sharded: Any = weight
    return local(distribute_tensor(whole, sharded.device_mesh, sharded.placements, src_data_rank=None))


def sum_over_shards(value: "Tensor", weights: "Iterable[Tensor]") -> "Tensor":
    """Return the sum of a value over the ranks among which `weights` are divided; the value itself if they are not."""
    sharded = next((weight for weight in weights if is_sharded(weight)), None)
    if sharded is None:
        return value
    from torch.distributed import all_reduce

    mesh: Any = sharded.device_mesh  # type: ignore[attr-defined]
    all_reduce(value, group=mesh.get_group(mesh.ndim - 1))  # the last dimension of both kinds of mesh
    return value


def free_gathered_weights(model: "nn.Module") -> None:
    """Free the gathered weights that a forward pass without a backward pass leaves behind.

    They would be used again after the shards have changed.
    """
    for module in sharded_modules(model):
        module.reshard()


def sharded_modules(model: "nn.Module") -> "Iterator[Any]":
    """Yield the modules that `fully_shard` was applied to, whose weights are gathered together."""
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            yield module
